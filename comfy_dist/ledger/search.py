"""Which jobs somebody asks for, as a condition of SQL."""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass

from comfy_dist.ledger.fold import JobState
from comfy_dist.ledger.schema import indexes_words
from comfy_dist.ledger.words import words

#: How workers are named, and what their ids are made of: the name and eight hexadecimal digits.
_WORKER_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_ID_DIGITS = "-" + "[0-9a-f]" * 8


@dataclass(frozen=True, slots=True)
class Search:
    """All that is given must hold; nothing given: all jobs."""

    #: Beginnings of words; each must be among the job's.
    query: str = ""
    #: One of these; none: any.
    states: tuple[JobState, ...] = ()
    #: Name or id of the worker that had it last.
    worker: str | None = None
    workflow_id: str | None = None
    #: Whose; None: everybody's.
    user: str | None = None

    def condition(self, connection: sqlite3.Connection) -> tuple[str, list[object]]:
        """SQL over the table jobs, and its values."""
        where: list[str] = ["TRUE"]
        values: list[object] = []
        if self.states:
            where.append(f"state IN ({','.join('?' * len(self.states))})")
            values += self.states
        if self.workflow_id is not None:
            where.append("workflow_id = ?")
            values.append(self.workflow_id)
        if self.user is not None:
            where.append("user = ?")
            values.append(self.user)
        if self.worker is not None:
            where.append("json_extract(workers, '$[#-1]') GLOB ?")
            values.append(self._worker_pattern(self.worker))
        if self.query.strip():
            asked = words([self.query])
            indexed = indexes_words(connection)
            for word in asked:
                where.append(_HAS[indexed])
                # The words are letters and digits: nothing in them means anything to FTS5 or LIKE.
                values.append(f'"{word}"*' if indexed else f"% {word}%")
            if not asked:
                # Nothing but signs, which no job is found by.
                where.append("FALSE")
        return " AND ".join(where), values

    @staticmethod
    def _worker_pattern(worker: str) -> str:
        """That id, or any start of the worker of that name; what can be neither matches nothing."""
        if not _WORKER_NAME.fullmatch(worker):
            return ""
        return worker if re.search(r"-[0-9a-f]{8}$", worker) else worker + _ID_DIGITS


#: Whether a job has a word, with and without an index.
_HAS = {
    True: "arrival IN (SELECT rowid >> 1 FROM words WHERE words MATCH ?)",
    False: "arrival IN (SELECT rowid >> 1 FROM words WHERE ' ' || text LIKE ?)",
}
