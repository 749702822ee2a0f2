"""Which symbols a native object file leaves undefined: what it would call in the process that loads it.

ELF (Linux), Mach-O (macOS) and COFF (Windows), 64-bit little-endian, as LLVM emits them. Only the symbol table is read.
"""

from __future__ import annotations

import struct

from graphnn.errors import KernelStoreError


def undefined_symbols(code: bytes) -> list[str]:
    """Names of the undefined symbols of an object file, sorted, without the platform's leading underscore."""
    if code[:4] == b"\x7fELF":
        return sorted(_elf(code))
    if code[:4] == b"\xcf\xfa\xed\xfe":
        return sorted(name.removeprefix("_") for name in _macho(code))
    if code[:2] in (b"\x64\x86", b"\x64\xaa"):
        return sorted(_coff(code))
    raise KernelStoreError(f"an object file of an unknown format (it starts with {code[:4].hex()})")


def _text(table: bytes, at: int) -> str:
    return table[at : table.index(b"\0", at)].decode("ascii")


def _elf(code: bytes) -> set[str]:
    (sections_at,) = struct.unpack_from("<Q", code, 0x28)
    entry_size, count = struct.unpack_from("<HH", code, 0x3A)
    sections = [struct.unpack_from("<IIQQQQIIQQ", code, sections_at + i * entry_size) for i in range(count)]
    found: set[str] = set()
    for _, kind, _, _, at, size, link, *_ in sections:
        if kind != 2:  # SHT_SYMTAB
            continue
        names = code[sections[link][4] : sections[link][4] + sections[link][5]]
        for i in range(1, size // 24):  # symbol 0 is the null symbol
            name, _, _, section, _, _ = struct.unpack_from("<IBBHQQ", code, at + 24 * i)
            if section in (0, 0xFFF2):  # SHN_UNDEF, SHN_COMMON
                found.add(_text(names, name))
    return found


def _macho(code: bytes) -> set[str]:
    (commands,) = struct.unpack_from("<I", code, 16)
    at, found = 32, set[str]()
    for _ in range(commands):
        command, size = struct.unpack_from("<II", code, at)
        if command == 2:  # LC_SYMTAB
            symbols, count, strings, length = struct.unpack_from("<IIII", code, at + 8)
            names = code[strings : strings + length]
            for i in range(count):
                name, kind, _, _, _ = struct.unpack_from("<IBBHQ", code, symbols + 16 * i)
                if kind & 0x0E == 0 and not kind & 0xE0:  # N_UNDF, and no debugging entry
                    found.add(_text(names, name))
        at += size
    return found


def _coff(code: bytes) -> set[str]:
    symbols, count = struct.unpack_from("<II", code, 8)
    names = code[symbols + 18 * count :]
    i, found = 0, set[str]()
    while i < count:
        raw, _, section, _, storage, extra = struct.unpack_from("<8sIhHBB", code, symbols + 18 * i)
        if section == 0 and storage == 2:  # undefined, external
            long_name = raw[:4] == b"\0\0\0\0"
            found.add(_text(names, struct.unpack("<I", raw[4:])[0]) if long_name else raw.rstrip(b"\0").decode("ascii"))
        i += 1 + extra
    return found
