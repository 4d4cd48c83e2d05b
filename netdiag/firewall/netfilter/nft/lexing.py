"""Cuts the text of ``nft list ruleset`` into words, marks and ends of lines. Format: nftables src/scanner.l."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import msgspec

_TOKEN = re.compile(
    r"""
      (?P<space>[ \t\r]+|\\\n)
    | (?P<comment>\#[^\n]*)
    | (?P<end>\n|;)
    | "(?P<quoted>[^"\n]*)"
    | (?P<mark><<|>>|==|!=|<=|>=|[{}(),=<>&|^!])
    | (?P<word>@(?:ll|nh|th|ih),\d+,\d+|[^\s{}(),;="<>&|^!\#]+)
    """,
    re.VERBOSE,
)
_HANDLE = re.compile(r"#\s*handle (\d+)\s*$")
_END = "\n"


class Token(msgspec.Struct, frozen=True, gc=False):
    """One word or mark. ``quoted`` words name nothing of the language; the text of an end of line, or of a semicolon, is one."""

    text: str
    line_number: int
    start: int
    quoted: bool = False
    comment: str = ""
    """What a comment says that stands before an end of line."""

    @property
    def ends(self) -> bool:
        """Whether it ends a line."""
        return self.text == _END and not self.quoted

    def handle(self) -> int | None:
        """The handle that nft writes at an end of line."""
        found = _HANDLE.match(self.comment)
        return int(found[1]) if found else None


class Strange(Exception):
    """What is not understood of a text, with the number of its line."""

    def __init__(self, reason: str, line_number: int) -> None:
        """Remember both."""
        super().__init__(reason)
        self.line_number = line_number


def tokens(text: str) -> Iterator[Token]:
    """The words and marks of a text. Raises Strange at what is none."""
    position, line_number, comment = 0, 1, ""
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            raise Strange(f"{text[position : position + 20]!r} is not understood", line_number)
        kind = found.lastgroup
        if kind == "comment":
            comment = found["comment"]
        elif kind == "end":
            yield Token(_END, line_number, position, comment=comment if found["end"] == _END else "")
            comment = ""
        elif kind == "quoted":
            yield Token(found["quoted"], line_number, position, quoted=True)
        elif kind == "word" and len(found[0]) > 1 and found[0].endswith(":") and not found[0].endswith("::"):
            yield Token(found[0][:-1], line_number, position)
            yield Token(":", line_number, found.end() - 1)
        elif kind in ("mark", "word"):
            yield Token(found[0], line_number, position)
        line_number += found[0].count("\n")
        position = found.end()


def with_variables(row: list[Token]) -> list[Token]:
    """The tokens with what ``define NAME = …`` names in the place of ``$NAME``; a name that is not defined stays.

    A set that is named within another is a part of it.
    """
    known: dict[str, list[Token]] = {}
    found: list[Token] = []
    at = 0
    while at < len(row):
        token = row[at]
        begins = not found or found[-1].ends
        is_definition = [each.text for each in row[at : at + 3 : 2]] == ["define", "="]
        if begins and is_definition and not token.quoted:
            end = _end_of_line(row, at + 3)
            known[f"${row[at + 1].text}"] = with_named(row[at + 3 : end], known)
            at = end
            continue
        found.append(token)
        at += 1
    return with_named(found, known)


def _end_of_line(row: list[Token], at: int) -> int:
    depth = 0
    while at < len(row) and (depth > 0 or not row[at].ends):
        if not row[at].quoted:
            depth += (row[at].text == "{") - (row[at].text == "}")
        at += 1
    return at


def with_named(row: list[Token], known: Mapping[str, list[Token]]) -> list[Token]:
    """The tokens with known names replaced."""
    found: list[Token] = []
    for at, token in enumerate(row):
        value = known.get(token.text) if not token.quoted else None
        if value is None:
            found.append(token)
            continue
        before = next((each.text for each in reversed(found) if not each.ends), "")
        after = next((each.text for each in row[at + 1 :] if not each.ends), "")
        within = before in ("{", ",") and after in (",", "}") and value[:1] and value[0].text == "{"
        inner = [each for each in value[1:-1] if not each.ends] if within else value
        while within and inner and inner[-1].text == ",":
            inner = inner[:-1]
        found += [msgspec.structs.replace(each, line_number=token.line_number, start=token.start) for each in inner]
    return found


class Cursor:
    """A place in a row of tokens."""

    def __init__(self, row: list[Token]) -> None:
        """Begin at the first."""
        self._row = row
        self._at = 0

    def peek(self, ahead: int = 0) -> Token:
        """The token here, or some further; an end of line behind the last."""
        at = self._at + ahead
        if at < len(self._row):
            return self._row[at]
        last = self._row[-1] if self._row else None
        return Token(_END, last.line_number if last else 1, last.start + len(last.text) if last else 0)

    def is_(self, *texts: str) -> bool:
        """Whether the token here is one of these words or marks."""
        token = self.peek()
        return not token.quoted and token.text in texts

    def take(self, *texts: str) -> Token:
        """The token here, and on to the next. Raises Strange where it is none of these, if any are said."""
        token = self.peek()
        if texts and not self.is_(*texts):
            raise Strange(f"{token.text.strip()[:40]!r} stands where {' or '.join(texts)} should", token.line_number)
        if self._at >= len(self._row):
            raise Strange("the text ends too early", token.line_number)
        self._at += 1
        return token

    def word(self) -> str:
        """A word here, and on to the next. Raises Strange where it is a mark or an end of line."""
        token = self.take()
        if token.ends or (not token.quoted and token.text in "{}(),=<>&|^!"):
            raise Strange(f"{token.text.strip()[:40]!r} stands where a word should", token.line_number)
        return token.text

    def skips(self, *texts: str) -> bool:
        """Whether one of these was here; then it is behind."""
        if self.is_(*texts):
            self._at += 1
            return True
        return False

    def skip_ends(self) -> None:
        """On behind all ends of lines."""
        while self._at < len(self._row) and self.peek().ends:
            self._at += 1

    @property
    def done(self) -> bool:
        """Whether nothing is left."""
        return self._at >= len(self._row)

    def mark(self) -> int:
        """Where it is, to come back to."""
        return self._at

    def back(self, mark: int) -> None:
        """To a place that was marked."""
        self._at = mark
