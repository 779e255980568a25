#!/usr/bin/env python3
"""Cuts a recorded COLO stream down to seeds for fuzz_colo_stream, and prints what the recording holds.

It reads the stream by itself, without the parser that the seeds are for, and copies the kept bytes as they
are. Of each checkpoint it keeps the records that name a block, and the first few pages and zero pages; the
device state is cut to its first bytes and its length set to fit. Needs only Python's standard library.
"""
import argparse
import collections
import struct

PAGE_SIZE = 4096
CONTINUE, EOS, PAGE, ZERO = 0x20, 0x10, 0x08, 0x02


class Reader:
    def __init__(self, data):
        self.data = memoryview(data)
        self.at = 0

    def get(self, count):
        piece = self.data[self.at:self.at + count]
        if len(piece) != count:
            raise SystemExit(f"the recording ends inside a checkpoint, at byte {self.at}")
        self.at += count
        return bytes(piece)

    def number(self, layout):
        return struct.unpack(layout, self.get(struct.calcsize(layout)))[0]


def read_ram_section(reader, kept, options, seen):
    pages = zero_pages = 0
    while True:
        start = reader.at
        head = reader.number(">Q")
        flags = head & 0xfff
        seen["flags"][flags] += 1
        if flags & EOS:
            kept += reader.data[start:reader.at]
            return
        named = not flags & CONTINUE
        if named:
            seen["blocks"][reader.get(reader.number("B")).decode()] += 1
        if flags & PAGE:
            reader.get(PAGE_SIZE)
            pages += 1
            wanted = pages <= options.pages
        elif flags & ZERO:
            fill = reader.number("B")
            seen["fills"][fill] += 1
            zero_pages += 1
            wanted = zero_pages <= options.zero_pages
        else:
            raise SystemExit(f"unknown record flags {flags:#x} at byte {start}")
        if wanted or (named and options.keep_names):
            kept += reader.data[start:reader.at]


def read_checkpoint(reader, options, seen):
    kept = bytearray(reader.get(8))
    if kept != struct.pack(">II", 1, 3):
        raise SystemExit(f"expected REQUEST and SEND, got {kept.hex()}")
    kind = reader.get(1)
    while kind != b"\x00":
        seen["sections"][kind.hex()] += 1
        kept += kind
        if kind == b"\x03":
            identifier = reader.get(4)
            seen["section ids"][identifier.hex()] += 1
            kept += identifier
            read_ram_section(reader, kept, options, seen)
        elif kind == b"\x7e":
            kept += reader.get(4)
        else:
            raise SystemExit(f"unknown section type {kind.hex()} before byte {reader.at}")
        kind = reader.get(1)
    kept += kind + reader.get(4)
    size = reader.number(">Q")
    seen["device state bytes"][size] += 1
    state = reader.get(size)[:options.device_state]
    return kept + struct.pack(">Q", len(state)) + state


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recording")
    parser.add_argument("--prefix", help="write PREFIX-1, PREFIX-2, ...; without it nothing is written")
    parser.add_argument("--pages", type=int, default=3)
    parser.add_argument("--zero-pages", type=int, default=3)
    parser.add_argument("--device-state", type=int, default=512, help="bytes to keep of it")
    parser.add_argument("--no-keep-names", dest="keep_names", action="store_false",
                        help="keep only the first records, also where a later one names another block")
    parser.add_argument("--per-seed", type=int, default=2, help="checkpoints in a seed")
    options = parser.parse_args()
    with open(options.recording, "rb") as file:
        reader = Reader(file.read())
    seeds, count = [bytearray()], 0
    while reader.at < len(reader.data):
        seen = collections.defaultdict(collections.Counter)
        start = reader.at
        if count and count % options.per_seed == 0:
            seeds.append(bytearray())
        seeds[-1] += read_checkpoint(reader, options, seen)
        count += 1
        print(f"checkpoint {count}: {reader.at - start} bytes")
        for what, values in seen.items():
            shown = {hex(k) if what == "flags" else k: v for k, v in values.items()}
            print(f"  {what}: {shown}")
    for number, seed in enumerate(seeds, 1):
        print(f"seed {number}: {len(seed)} bytes")
        if options.prefix:
            with open(f"{options.prefix}-{number}", "wb") as file:
                # The fuzz target takes its first four bytes as the seed of the chunking.
                file.write(struct.pack(">I", number) + seed)


if __name__ == "__main__":
    main()
