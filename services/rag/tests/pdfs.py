"""PDF files for tests: text at places, in sizes, with an outline; and one with a password."""

import hashlib
from dataclasses import dataclass
from itertools import count


@dataclass(frozen=True)
class Text:
    """A line of text: its baseline's place in points from the lower left corner."""

    text: str
    x: int = 72
    y: int = 700
    size: int = 10


@dataclass(frozen=True)
class Entry:
    """An entry of the outline; `page` counts from 1."""

    title: str
    page: int
    y: int


def lines(*texts: str, top: int = 700, size: int = 10, gap: int = 12) -> list[Text]:
    """Lines below each other, as close as those of one paragraph."""
    return [Text(text, y=top - gap * number, size=size) for number, text in enumerate(texts)]


def make_pdf(pages: list[list[Text]], outline: tuple[Entry, ...] = (), title: str = "") -> bytes:
    """A PDF of these pages."""
    return _Writer().write(pages, outline, title)


class _Writer:
    def __init__(self) -> None:
        self._objects: dict[int, bytes] = {}
        self._numbers = count(1)

    def _add(self, body: bytes, number: int | None = None) -> int:
        number = number or next(self._numbers)
        self._objects[number] = body
        return number

    def write(self, pages: list[list[Text]], outline: tuple[Entry, ...], title: str) -> bytes:
        root, tree, outlines = (next(self._numbers) for _ in range(3))
        font = self._add(b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>")
        kids = [self._page(tree, font, page) for page in pages]
        listed = b" ".join(b"%d 0 R" % kid for kid in kids)
        self._add(b"<</Type/Pages/Count %d/Kids[%s]>>" % (len(kids), listed), tree)
        self._outline(outlines, kids, outline)
        self._add(b"<</Type/Catalog/Pages %d 0 R/Outlines %d 0 R>>" % (tree, outlines), root)
        info = self._add(b"<</Title(%s)>>" % _escaped(title))
        return self.file(root, b"/Info %d 0 R" % info)

    def _page(self, tree: int, font: int, texts: list[Text]) -> int:
        content = b"\n".join(
            b"BT /F %d Tf %d %d Td (%s) Tj ET" % (one.size, one.x, one.y, _escaped(one.text))
            for one in texts
        )
        stream = self._add(b"<</Length %d>>stream\n%s\nendstream" % (len(content), content))
        return self._add(
            b"<</Type/Page/Parent %d 0 R/MediaBox[0 0 612 792]/Contents %d 0 R"
            b"/Resources<</Font<</F %d 0 R>>>>>>" % (tree, stream, font)
        )

    def _outline(self, root: int, pages: list[int], entries: tuple[Entry, ...]) -> None:
        numbers = [next(self._numbers) for _ in entries]
        for index, (number, entry) in enumerate(zip(numbers, entries, strict=True)):
            following = b"/Next %d 0 R" % numbers[index + 1] if number != numbers[-1] else b""
            page = pages[entry.page - 1]
            self._add(
                b"<</Title(%s)/Parent %d 0 R%s/Dest[%d 0 R/XYZ 72 %d 0]>>"
                % (_escaped(entry.title), root, following, page, entry.y),
                number,
            )
        ends = b"/First %d 0 R/Last %d 0 R" % (numbers[0], numbers[-1]) if numbers else b""
        self._add(b"<</Type/Outlines/Count %d%s>>" % (len(numbers), ends), root)

    def file(self, root: int, trailer: bytes) -> bytes:
        out = bytearray(b"%PDF-1.4\n")
        places = {}
        for number, body in sorted(self._objects.items()):
            places[number] = len(out)
            out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
        start = len(out)
        out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(places) + 1)
        for _, place in sorted(places.items()):
            out += b"%010d 00000 n \n" % place
        out += b"trailer<</Size %d/Root %d 0 R%s>>\n" % (len(places) + 1, root, trailer)
        return bytes(out + b"startxref\n%d\n%%%%EOF" % start)


def make_encrypted_pdf(password: str) -> bytes:
    """A PDF that opens with the password only (standard handler, revision 2)."""
    padding = bytes.fromhex("28BF4E5E4E758A4164004E56FFFA01082E2E00B6D0683E802F0CA9FE6453697A")
    padded = (password.encode() + padding)[:32]
    identifier = b"0123456789abcdef"
    owner = _rc4(hashlib.md5(padded, usedforsecurity=False).digest()[:5], padded)
    rights = (-4).to_bytes(4, "little", signed=True)
    key = hashlib.md5(padded + owner + rights + identifier, usedforsecurity=False).digest()[:5]
    writer = _Writer()
    plain = writer.write([[Text("hidden")]], (), "")
    assert plain.startswith(b"%PDF")
    lock = b"/Encrypt<</Filter/Standard/V 1/R 2/P -4/O<%s>/U<%s>>>/ID[<%s><%s>]" % (
        owner.hex().encode(),
        _rc4(key, padding).hex().encode(),
        identifier.hex().encode(),
        identifier.hex().encode(),
    )
    return writer.file(1, lock)


def _rc4(key: bytes, text: bytes) -> bytes:
    state = list(range(256))
    j = 0
    for i in range(256):
        j = (j + state[i] + key[i % len(key)]) % 256
        state[i], state[j] = state[j], state[i]
    out = bytearray()
    i = j = 0
    for byte in text:
        i = (i + 1) % 256
        j = (j + state[i]) % 256
        state[i], state[j] = state[j], state[i]
        out.append(byte ^ state[(state[i] + state[j]) % 256])
    return bytes(out)


def _escaped(text: str) -> bytes:
    return (
        text.encode("latin-1").replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)")
    )
