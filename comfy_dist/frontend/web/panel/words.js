// Figures as people read them.

const UNITS = ["bytes", "KB", "MB", "GB", "TB"];

/** 3221225472 → "3 GB". */
export function bytes(count) {
  let unit = 0;
  while (count >= 1024 && unit < UNITS.length - 1) {
    count /= 1024;
    unit += 1;
  }
  return `${count < 10 && unit ? count.toFixed(1).replace(/\.0$/, "") : Math.round(count)} ${UNITS[unit]}`;
}

/** Milliseconds → "42 s", "7 min", "3 h", "2 days". */
export function duration(milliseconds) {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  if (seconds < 100) return `${seconds} s`;
  if (seconds < 6000) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

/** 12.3 → "12 an hour". */
export function rate(hourly) {
  return `${hourly < 10 ? hourly.toFixed(1).replace(/\.0$/, "") : Math.round(hourly)} an hour`;
}

/** 1, "worker" → "1 worker"; 3 → "3 workers". */
export function many(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

/** ["a", "b", "c"] → "a, b and c". */
export function list(names) {
  return names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}

/** Enough of a prompt's id to tell it from others. */
export function short(id) {
  return id.slice(0, 8);
}
