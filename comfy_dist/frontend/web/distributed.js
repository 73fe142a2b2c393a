// Shows on the graph which ranks of a region run where: a badge above the nodes that open and close it, and a line
// for each rank that is at work, above the node that opens the region and above the node that the rank executes.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const OPENS = /^Cluster(FanOut|GetInstanceWorkItem)/;
const CLOSES = /^Cluster(FanIn|Gather)/;
const ENDS = ["execution_success", "execution_error", "execution_interrupted"];
const COLOURS = { running: "#3b82f6", done: "#22c55e", failed: "#ef4444", waiting: "#6b7280" };
/** Regions lie at most so deep in each other. */
const DEEPEST = 16;
const LINES = 8;
const ROW = 18;
const PADDING = 8;
const BAR = 60;
/** Above a title there may be badges of the page's own. */
const ABOVE = 28;

/** {prompt id: {region: {ranks: {rank: the last message about it}, done, items}}} */
const prompts = new Map();

/** A message is about one rank, or says how many of the region's items are done. */
function hear({ detail }) {
  const regions = prompts.get(detail.prompt_id) ?? new Map();
  const region = regions.get(detail.region) ?? { ranks: new Map(), done: 0, items: 0 };
  prompts.set(detail.prompt_id, regions.set(detail.region, region));
  if ("items" in detail) Object.assign(region, { done: detail.done, items: detail.items });
  else region.ranks.set(detail.rank, detail);
  redraw();
}

function forget(promptId) {
  if (prompts.delete(promptId)) redraw();
}

function redraw() {
  app.canvas?.setDirty(true, false);
}

/** The node on the canvas; one within a subgraph, "12:7", stands there as the subgraph's node. */
function nodeOf(id) {
  const graph = app.canvas.graph;
  if (id == null || graph !== app.graph) return null;
  return graph.getNodeById(String(id).split(":")[0]) ?? null;
}

/** The nodes that open and close the region that has this node at its border. */
function borderOf(node) {
  const openers = OPENS.test(node.type) ? [node] : bordering(node, sourcesOf, OPENS, CLOSES);
  const closers = openers.flatMap((opener) => bordering(opener, targetsOf, CLOSES, OPENS));
  return { openers, border: new Set([node, ...openers, ...closers]) };
}

/** The first nodes of the classes `ends` on every way from `start`, but for those of other regions on it: these begin
 * with a node of the classes `begins`, seen from here. */
function bordering(start, neighbours, ends, begins) {
  const found = new Set();
  const seen = new Set();
  const ways = [[start, 0]];
  for (const [node, depth] of ways) {
    for (const next of neighbours(node)) {
      if (!next) continue;
      const isEnd = ends.test(next.type);
      if (isEnd && depth === 0) {
        found.add(next);
        continue;
      }
      const within = depth + (begins.test(next.type) ? 1 : isEnd ? -1 : 0);
      const way = `${next.id} ${within}`;
      if (within > DEEPEST || seen.has(way)) continue;
      seen.add(way);
      ways.push([next, within]);
    }
  }
  return [...found];
}

function sourcesOf(node) {
  return (node.inputs ?? []).map((input) => nodeOf(linkOf(input.link)?.origin_id));
}

function targetsOf(node) {
  const links = (node.outputs ?? []).flatMap((output) => output.links ?? []);
  return links.map((link) => nodeOf(linkOf(link)?.target_id));
}

function linkOf(id) {
  return id == null ? null : app.canvas.graph.getLink(id);
}

/** What is to be shown above each node: {node: {badges, lines}}. */
function shown() {
  const panels = new Map();
  const panel = (node) => panels.get(node) ?? panels.set(node, { badges: [], lines: [] }).get(node);
  for (const regions of prompts.values()) {
    for (const [id, region] of regions) {
      const named = nodeOf(id.split(".")[0]);
      const over = region.items > 0 && region.done >= region.items;
      const all = [...region.ranks.values()].sort((a, b) => a.rank - b.rank);
      const busy = all.filter(({ state }) => state === "failed" || (state === "running" && !over));
      const { openers, border } = named ? borderOf(named) : { openers: [], border: [] };
      const badge = badgeOf(all, region, over);
      for (const node of border) panel(node).badges.push(badge);
      if (openers.length) panel(openers[0]).lines.push(...busy.map((rank) => ({ rank, at: titleOf(rank.node) })));
      for (const rank of busy) {
        const node = nodeOf(rank.node);
        if (node && !openers.includes(node)) panel(node).lines.push({ rank, at: "" });
      }
    }
  }
  return panels;
}

/** The parent takes part too, as rank 0, of which there are no messages. */
function badgeOf(ranks, { done, items }, over) {
  const there = 1 + ranks.filter(({ state }) => state !== "waiting").length;
  const world = Math.max(there, ...ranks.map((rank) => rank.world ?? 1));
  const state = ranks.some((rank) => rank.state === "failed") ? "failed" : over ? "done" : "running";
  return { text: `${there}/${world} ranks` + (items ? ` · ${done}/${items}` : ""), state };
}

function titleOf(id) {
  const node = nodeOf(id);
  return node ? (node.getTitle?.() ?? node.title) : "";
}

function draw(ctx) {
  if (prompts.size === 0) return;
  ctx.save();
  ctx.font = "12px sans-serif";
  ctx.textBaseline = "middle";
  ctx.textAlign = "left";
  for (const [node, { badges, lines }] of shown()) {
    let bottom = node.pos[1] - LiteGraph.NODE_TITLE_HEIGHT - ABOVE;
    if (lines.length) bottom = drawLines(ctx, node.pos[0], bottom, lines) - 4;
    let left = node.pos[0];
    for (const badge of badges) left = drawBadge(ctx, left, bottom, badge) + 4;
  }
  ctx.restore();
}

/** Returns its right edge. */
function drawBadge(ctx, left, bottom, { text, state }) {
  const width = ctx.measureText(text).width + 2 * PADDING;
  box(ctx, left, bottom - ROW - 2, width, ROW + 2, COLOURS[state]);
  ctx.fillStyle = "#ffffff";
  ctx.fillText(text, left + PADDING, bottom - ROW / 2);
  return left + width;
}

/** Returns its upper edge. */
function drawLines(ctx, left, bottom, lines) {
  const rows = lines.slice(0, LINES).map(({ rank, at }) => ({
    rank,
    text: [rank.worker || `rank ${rank.rank}`, at].filter(Boolean).join(" · "),
  }));
  const more = lines.length > LINES ? `and ${lines.length - LINES} more` : "";
  const widest = Math.max(...rows.map(({ text }) => ctx.measureText(text).width));
  const height = (rows.length + (more ? 1 : 0)) * ROW + PADDING;
  const top = bottom - height;
  box(ctx, left, top, widest + BAR + 3 * PADDING, height, "rgba(20, 24, 31, 0.92)");
  rows.forEach(({ rank, text }, place) => {
    const middle = top + PADDING / 2 + (place + 0.5) * ROW;
    ctx.fillStyle = "#e6edf3";
    ctx.fillText(text, left + PADDING, middle);
    // Most nodes tell no progress.
    if (rank.state === "running" && !(rank.max > 1 || rank.value > 0)) return;
    const bar = left + widest + 2 * PADDING;
    box(ctx, bar, middle - 3, BAR, 6, "#3f4754");
    const part = rank.state === "failed" ? 1 : Math.min(1, Math.max(0, rank.max > 0 ? rank.value / rank.max : 0));
    if (part > 0) box(ctx, bar, middle - 3, BAR * part, 6, COLOURS[rank.state]);
  });
  ctx.fillStyle = "#9da7b3";
  if (more) ctx.fillText(more, left + PADDING, bottom - PADDING / 2 - ROW / 2);
  return top;
}

function box(ctx, x, y, width, height, colour) {
  ctx.fillStyle = colour;
  ctx.beginPath();
  ctx.roundRect(x, y, width, height, Math.min(5, height / 2));
  ctx.fill();
}

app.registerExtension({
  name: "comfy_dist.distributed",
  setup() {
    api.addEventListener("distributed_progress", hear);
    // A further attempt begins with other ranks.
    for (const event of ["execution_start", ...ENDS]) {
      api.addEventListener(event, ({ detail }) => forget(detail.prompt_id));
    }
    // What ended while the connection was lost is not told again; what still runs is.
    api.addEventListener("reconnected", () => {
      prompts.clear();
      redraw();
    });
    const before = app.canvas.onDrawForeground;
    app.canvas.onDrawForeground = function (ctx, area) {
      before?.call(this, ctx, area);
      draw(ctx);
    };
  },
});
