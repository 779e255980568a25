#!/usr/bin/env python3
"""Checks that every test that SPECIFICATION.md names exists in the sources.

usage: specification_names.py SOURCE_DIR
"""
import pathlib
import re
import sys

root = pathlib.Path(sys.argv[1])
defined = set()
for source in (root / "tests").rglob("*.cpp"):
    for suite, name in re.findall(
        r"\b(?:TEST|TEST_F|TEST_P|RC_GTEST_PROP|RC_GTEST_FIXTURE_PROP)\(\s*(\w+),\s*(\w+)", source.read_text()
    ):
        defined.add((suite, name))
suites = {suite for suite, _ in defined}

text = (root / "SPECIFICATION.md").read_text()
named = [
    (suite, name)
    for suite, name in re.findall(r"`([A-Z]\w+)\.(\w+|\*)`", text)
    if suite != "Suite"  # the legend
]
missing = [
    f"{suite}.{name}"
    for suite, name in named
    if (suite not in suites if name == "*" else (suite, name) not in defined)
]
if not named:
    sys.exit("SPECIFICATION.md names no test at all")
if missing:
    sys.exit("SPECIFICATION.md names tests that do not exist: " + ", ".join(missing))
print(f"{len(named)} names, all of them tests")
