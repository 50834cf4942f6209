# SPDX-License-Identifier: MIT
"""The headers and the manual pages name the same errors for each call, and bufpipe_strerror knows each of them:

    check-errors.py README DIRECTORY-OF-PAGES ERROR.C HEADER...

In a header a comment has a paragraph that begins with "Errors".  It counts for the
calls that follow, up to the next such comment; "name:" in it narrows it to a call.
On a page the section ERRORS is read in the same way.  ERROR.C is the source of
bufpipe_strerror, whose table has a line { EINVAL, "..." } for each error.
"""

import pathlib
import re
import sys

# (call, error): why only one of the two names it.
ALLOWED: dict[tuple[str, str], str] = {}

ERROR = re.compile(r"-(E[A-Z0-9]{3,})\b")
REFERENCE = re.compile(r"those of (bufpipe_\w+)( except (?:-E\w+(?:, | and )?)+)?")
MEANING = re.compile(r"^\s*\{ (E[A-Z0-9]{3,}), \"", re.MULTILINE)
CALL = re.compile(r"^(?:int|ssize_t) (bufpipe_\w+)\(", re.MULTILINE)
NARROWED = re.compile(r"(?:\*bufpipe_\w+\*\(\)(?:, | and )?)+(?: only)?:")
# Errors that every call may return; the overview page lists them.
ANY = "any call"


def paragraph_of_errors(comment: str) -> str:
    lines = [re.sub(r"^(/\*| \*/?) ?", "", line).removesuffix("*/") for line in comment.splitlines()]
    found = []
    for line in lines:
        if found and not line.strip():
            break
        if found or re.match(r"Errors\b.*:", line):
            found.append(line.strip())
    return " ".join(found)


def short_names(calls: list[str]) -> dict[str, str]:
    return {re.sub(r"^bufpipe_(set_|prep_)?", "", call): call for call in calls}


def read_paragraph(text: str, calls: list[str], known: dict[str, set[str]]) -> dict[str, set[str]]:
    errors: dict[str, set[str]] = {call: set() for call in calls}
    short = short_names(calls)
    names = "|".join(sorted(short, key=len, reverse=True))
    parts = re.split(rf"\b((?:{names})(?:(?:, | and )(?:{names}))*):", text)
    for scope, part in zip([None, *parts[1::2]], parts[0::2]):
        here: set[str] = set()
        for call, without in REFERENCE.findall(part):
            here |= known[call] - set(ERROR.findall(without))
        here |= set(ERROR.findall(REFERENCE.sub("", part)))
        for call in [short[name] for name in re.split(", | and ", scope)] if scope else calls:
            errors[call] |= here
    return errors


def read_header(text: str, known: dict[str, set[str]]) -> None:
    """Adds the calls of a header to those of the headers before it, whose errors it may mean by "those of"."""
    comments = [(m.end(), paragraph_of_errors(m[0])) for m in re.finditer(r"/\*.*?\*/", text, re.DOTALL)]
    groups: dict[int, list[str]] = {}
    for call in CALL.finditer(text):
        groups.setdefault(max([0] + [end for end, errors in comments if errors and end < call.start()]), []).append(call[1])
    for end, errors in comments:
        if end in groups:
            known |= read_paragraph(errors, groups[end], known)
    for call in groups.get(0, []):
        known[call] = set()
    general = re.search(r"^ \* Errors that any call may return.*?\*/", text, re.MULTILINE | re.DOTALL)
    if general:
        known[ANY] = set(ERROR.findall(general[0]))


def read_page(text: str) -> dict[str, set[str]]:
    calls = re.findall(r"bufpipe_\w+", re.search(r"^# NAME\n\n(.*?) - ", text, re.MULTILINE | re.DOTALL)[1])
    calls = calls or [ANY]
    errors: dict[str, set[str]] = {call: set() for call in calls}
    section = re.search(r"^# ERRORS\n(.*?)(?=^# |\Z)", text, re.MULTILINE | re.DOTALL)
    scope = calls
    for block in section[1].strip().split("\n\n") if section else []:
        head, _, body = block.partition("\n")
        if head.startswith("Of "):
            scope = re.findall(r"bufpipe_\w+", head) or calls
        if not head.startswith("*-E"):
            continue
        body = " ".join(body.split())
        narrowed = re.findall(r"bufpipe_\w+", " ".join(NARROWED.findall(body))) if NARROWED.match(body) else scope
        for call in narrowed:
            errors[call] |= set(ERROR.findall(head))
    return errors


def compare_table(source: pathlib.Path, documented: set[str]) -> list[str]:
    """Compares the table of bufpipe_strerror with the errors that the headers name."""
    table = MEANING.findall(source.read_text())
    complaints = [f"{source.name} does not know -{e}, which a header names" for e in sorted(documented - set(table))]
    complaints += [f"{source.name} knows -{e}, which no header names" for e in sorted(set(table) - documented)]
    complaints += [f"{source.name} has two meanings of -{e}" for e in sorted(set(table)) if table.count(e) > 1]
    return complaints


def main() -> int:
    readme, pages, table = (pathlib.Path(name) for name in sys.argv[1:4])
    in_headers: dict[str, set[str]] = {}
    on_pages: dict[str, set[str]] = {}
    for header in sys.argv[4:]:
        read_header(pathlib.Path(header).read_text(), in_headers)
    for page in [*pages.glob("*.3.scd"), pages / "bufpipe.7.scd"]:
        on_pages |= read_page(page.read_text())
    complaints = []
    for call, errors in in_headers.items():
        if not errors:
            complaints.append(f"the header names no errors of {call}")
        for error in sorted(errors ^ on_pages.get(call, set())):
            place = "the header" if error in errors else "its page"
            if (call, error) not in ALLOWED:
                complaints.append(f"{call}: only {place} names -{error}")
    documented = set().union(*in_headers.values())
    complaints += [f"{readme.name} names -{e}, which no call returns"
                   for e in sorted(set(ERROR.findall(readme.read_text())) - documented)]
    complaints += [f"{call}: -{error} need not be allowed any more" for call, error in ALLOWED
                   if error not in in_headers.get(call, set()) ^ on_pages.get(call, set())]
    complaints += compare_table(table, documented)
    for complaint in complaints:
        print(complaint)
    return bool(complaints)


sys.exit(main())
