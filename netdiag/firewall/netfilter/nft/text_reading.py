"""Reads ``nft list ruleset``, and what nft reads itself of that form, into the words of ``nft -j``.

Of a rule that is not understood the statements before it are kept, and what stands behind is unknown. A block, as in
``tcp dport 22 jump { … }``, is a chain of its own that only its rule calls.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from netdiag.firewall.listing import BLOCK, without_counts
from netdiag.firewall.netfilter.nft.lexing import Cursor, Strange, Token, tokens, with_variables
from netdiag.firewall.netfilter.nft.text_expressions import Json, read_elements, read_key
from netdiag.firewall.netfilter.nft.text_statements import rate, read_statement

_FAMILIES = ("ip", "ip6", "inet", "arp", "bridge", "netdev")
_OBJECTS = ("counter", "quota", "ct", "synproxy", "secmark", "flowtable", "tunnel")
BEGINS = re.compile(
    r"^(?:[ \t]*(?:#[^\n]*)?\n)*[ \t]*"
    r"(?:table (?:(?:ip6?|inet|arp|bridge|netdev) )?\S+ ?(?:\{|\n|;|$)"
    r"|(?:flush|define|include|(?:add|create|delete|destroy) (?:table|chain|rule|set|map|element)) )"
)
"""How a text of this kind begins."""
_MOST_PROBLEMS = 50
_COMPATIBLE = re.compile(r"\bcounter packets \d")


class TextRows:
    """The entries of a text as ``nft -j`` lists them, and what of it was not understood, a line each."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.rows: list[Json] = []
        self.problems: list[str] = []

    def problem(self, line_number: int, reason: str) -> None:
        """Remember a line that was not understood."""
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append(f"line {line_number}: {reason}")


def read_text(text: str) -> TextRows:
    """Read a whole text; never raises."""
    found = TextRows()
    try:
        row = with_variables(list(tokens(text)))
    except Strange as error:
        found.problem(error.line_number, str(error))
        found.rows.append({"not understood": {}})
        return found
    _Text(text, Cursor(row), found).read()
    return found


class _Text:
    """One text while it is read."""

    def __init__(self, text: str, cursor: Cursor, found: TextRows) -> None:
        self._text = text
        self._cursor = cursor
        self._found = found
        self._blocks = 0

    def read(self) -> None:
        cursor = self._cursor
        cursor.skip_ends()
        while not cursor.done:
            token = cursor.peek()
            try:
                self._command()
            except (Strange, RecursionError) as error:
                self._not_understood(error, token)
                self._found.rows.append({"not understood": {}})
                if cursor.peek() is token:
                    cursor.take()
                self._to_end()
            cursor.skip_ends()

    def _command(self) -> None:
        """A table, or what makes room for it."""
        cursor = self._cursor
        token = cursor.peek()
        if cursor.skips("flush"):
            cursor.take("ruleset")
            self._found.rows.clear()
        elif cursor.is_("delete", "destroy") and cursor.peek(1).text == "table":
            self._delete()
        elif cursor.skips("table"):
            self._table()
        else:
            raise Strange(f"{token.text[:40]!r} begins no table", token.line_number)

    def _delete(self) -> None:
        """``delete table``, as files begin that are read again and again."""
        cursor = self._cursor
        cursor.take()
        cursor.take("table")
        place = (cursor.word() if cursor.is_(*_FAMILIES) else "ip"), cursor.word()
        rows = self._found.rows
        kept = [
            row
            for row in rows
            for kind, inner in row.items()
            if (inner.get("family"), inner.get("name" if kind == "table" else "table")) != place
        ]
        rows[:] = kept

    def _not_understood(self, error: Exception, token: Token) -> None:
        number = error.line_number if isinstance(error, Strange) else token.line_number
        self._found.problem(number, str(error) or "it is nested too deeply")

    def _to_end(self, depth: int = 0) -> None:
        """On behind the line, and behind the braces that were opened."""
        cursor = self._cursor
        while not cursor.done and (depth > 0 or not cursor.peek().ends):
            if depth == 0 and cursor.is_("}"):
                return
            depth += cursor.is_("{") - cursor.is_("}")
            cursor.take()

    def _table(self) -> None:
        cursor = self._cursor
        family = cursor.word() if cursor.is_(*_FAMILIES) and not cursor.peek(1).text.startswith("{") else "ip"
        name = cursor.word()
        if cursor.peek().ends:
            self._found.rows.append({"table": {"family": family, "name": name}})
            return
        cursor.take("{")
        place = {"family": family, "table": name}
        table: Json = {"family": family, "name": name}
        self._found.rows.append({"table": table})
        cursor.skip_ends()
        while not cursor.skips("}"):
            token = cursor.peek()
            try:
                self._entry(place, table)
            except (Strange, RecursionError) as error:
                self._not_understood(error, token)
                # Of what it was, nothing is known: the table has an entry without a name.
                self._found.rows.append({"chain": place})
                self._to_end(self._open_since(token))
            if cursor.done:
                raise Strange("the text ends within a table", token.line_number)
            cursor.skip_ends()

    def _open_since(self, token: Token) -> int:
        """How many braces were opened and not closed between a token and here."""
        here = self._cursor.peek().start
        between = [each.text for each in tokens(self._text[token.start : here]) if not each.quoted]
        return max(between.count("{") - between.count("}"), 0)

    def _entry(self, place: Json, table: Json) -> None:
        cursor = self._cursor
        token = cursor.peek()
        kind = cursor.word()
        if kind == "flags":
            table["flags"] = self._list()
        elif kind == "comment":
            cursor.word()
        elif kind == "chain":
            self._chain(place)
        elif kind in ("set", "map"):
            self._set(place, kind)
        elif kind == "limit":
            name = cursor.word()
            cursor.take("{")
            cursor.skip_ends()
            cursor.take("rate")
            self._found.rows.append({"limit": {**place, "name": name, **rate(cursor)}})
            self._to_end(1)
        elif kind in _OBJECTS:
            kind = f"ct {cursor.word()}" if kind == "ct" else kind
            self._found.rows.append({kind: {**place, "name": cursor.word()}})
            cursor.take("{")
            self._to_end(1)
        else:
            raise Strange(f"{kind[:40]!r} in a table is not understood", token.line_number)

    def _list(self) -> list[str]:
        words = [self._cursor.word()]
        while self._cursor.skips(","):
            words.append(self._cursor.word())
        return words

    def _chain(self, place: Json) -> None:
        cursor = self._cursor
        name = cursor.word()
        cursor.take("{")
        chain: Json = {**place, "name": name}
        self._found.rows.append({"chain": chain})
        cursor.skip_ends()
        while not cursor.is_("}"):
            if cursor.is_("type") and not cursor.peek().quoted:
                self._hook(chain)
            elif cursor.is_("policy") and cursor.peek(1).text in ("accept", "drop"):
                cursor.take()
                chain["policy"] = cursor.word()
            elif cursor.is_("comment") and cursor.peek(1).quoted:
                cursor.take()
                cursor.take()
            else:
                self._rule(place, name)
            if cursor.done:
                raise Strange("the text ends within a chain", cursor.peek().line_number)
            cursor.skip_ends()
        cursor.take("}")

    def _hook(self, chain: Json) -> None:
        cursor = self._cursor
        cursor.take("type")
        chain["type"] = cursor.word()
        cursor.take("hook")
        chain["hook"] = cursor.word()
        if cursor.skips("device"):
            chain["dev"] = [cursor.word()]
        elif cursor.skips("devices"):
            cursor.take("=")
            chain["dev"] = [each for each in read_elements(cursor, is_map=False) if isinstance(each, str)]
        cursor.take("priority")
        words: list[str] = []
        while not cursor.peek().ends and not cursor.is_("}"):
            words.append(cursor.word())
        chain["prio"] = " ".join(words)
        chain.setdefault("policy", "accept")

    def _rule(self, place: Json, chain: str) -> None:
        """A rule up to the end of its line."""
        cursor = self._cursor
        first = cursor.peek()
        statements: list[Any] = []
        row: Json = {**place, "chain": chain, "expr": statements}
        self._found.rows.append({"rule": row})
        blocks: list[Callable[[int | None], None]] = []
        while not cursor.peek().ends and not cursor.is_("}"):
            token = cursor.peek()
            try:
                if cursor.is_("comment") and cursor.peek(1).quoted:
                    cursor.take()
                    row["comment"] = cursor.word()
                elif cursor.is_("jump", "goto") and cursor.peek(1).text == "{" and not cursor.peek(1).quoted:
                    blocks.append(self._block(place, statements))
                else:
                    statements.append(read_statement(cursor))
            except (Strange, RecursionError) as error:
                self._not_understood(error, token)
                statements.append({"not understood": str(error)})
                self._to_end(self._open_since(token))
                break
        end = cursor.peek()
        row["handle"] = end.handle() if end.ends else None
        if end.comment and row["handle"] is None and _COMPATIBLE.search(end.comment):
            # nft lists what iptables' own matches and targets say as a comment, and what follows with it.
            statements.append({"xt": None})
        for name in blocks:
            name(row["handle"])
        row["text"] = without_counts(" ".join(self._text[first.start : end.start].split()))

    def _block(self, place: Json, statements: list[Any]) -> Callable[[int | None], None]:
        """A chain that stands inside of a rule; gives what names it, once the handle of the rule is known."""
        cursor = self._cursor
        verdict = cursor.word()
        cursor.take("{")
        self._blocks += 1
        chain: Json = {**place, "name": ""}
        call: Json = {verdict: {"target": ""}}
        statements.append(call)
        own = _Text(self._text, cursor, TextRows())
        own._blocks = self._blocks * 1000
        cursor.skip_ends()
        while not cursor.skips("}"):
            own._rule(place, "")
            if cursor.done:
                raise Strange("the text ends within a block", cursor.peek().line_number)
            cursor.skip_ends()
        number = self._blocks

        def name(handle: int | None) -> None:
            named = f"{BLOCK}[{handle if handle is not None else f'#{number}'}]"
            chain["name"] = call[verdict]["target"] = named
            for each in own._found.rows:
                for inner in each.values():
                    if inner.get("chain") == "":
                        inner["chain"] = named
            self._found.rows += [{"chain": chain}, *own._found.rows]
            self._found.problems += own._found.problems

        return name

    def _set(self, place: Json, kind: str) -> None:
        cursor = self._cursor
        name = cursor.word()
        cursor.take("{")
        found: Json = {**place, "name": name}
        self._found.rows.append({kind: found})
        statements: list[Json] = []
        cursor.skip_ends()
        while not cursor.skips("}"):
            token = cursor.peek()
            if cursor.done:
                raise Strange("the text ends within a set", token.line_number)
            if cursor.skips("type"):
                found["type"] = self._types(found)
            elif cursor.skips("typeof"):
                found["type"] = {"typeof": read_key(cursor)}
                if cursor.skips(":"):
                    found["map"] = "verdict" if cursor.skips("verdict") else {"typeof": read_key(cursor)}
            elif cursor.skips("flags"):
                found["flags"] = self._list()
            elif cursor.skips("size"):
                found["size"] = int(cursor.word())
            elif cursor.skips("timeout", "gc-interval", "policy", "comment"):
                cursor.word()
            elif cursor.skips("elements"):
                cursor.take("=")
                found["elem"] = read_elements(cursor, is_map=kind == "map")
            elif not cursor.skips("auto-merge"):
                statements.append(read_statement(cursor))
            cursor.skip_ends()
        if statements:
            found["stmt"] = statements

    def _types(self, found: Json) -> list[str]:
        """The types of a set's dimensions; behind a colon those of a map's values."""
        cursor = self._cursor
        words: Sequence[str] = [cursor.word()]
        while cursor.skips("."):
            words = [*words, cursor.word()]
        if cursor.skips(":"):
            cursor.skips("interval")
            data = [cursor.word()]
            while cursor.skips("."):
                data.append(cursor.word())
            found["map"] = data
        return list(words)
