"""Checks the dependencies against policy.toml: licences, sources, floors of versions, known advisories.

Usage: check.py METADATA.json Cargo.lock policy.toml
METADATA.json is what `cargo metadata` prints. Exit code 1 when something is wrong; each fault is one line.
"""

import json
import os
import pathlib
import re
import sys
import tomllib

FRONT_MATTER = re.compile(r"```toml\n(.*?)```", re.DOTALL)


def licence_is_allowed(expression, allowed):
    """Whether an SPDX expression leaves a choice that consists of allowed licences alone; raises ValueError."""
    # `A/B` is the old way to write `A OR B`.
    tokens = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))
    place = 0

    def peek():
        return tokens[place] if place < len(tokens) else None

    def take():
        nonlocal place
        place += 1
        return tokens[place - 1]

    def either():
        value = both()
        while peek() == "OR":
            take()
            other = both()
            value = value or other
        return value

    def both():
        value = one()
        while peek() == "AND":
            take()
            other = one()
            value = value and other
        return value

    def one():
        token = peek()
        if token is None or token in (")", "AND", "OR", "WITH"):
            raise ValueError(f"`{expression}` is no licence expression")
        take()
        if token == "(":
            value = either()
            if peek() != ")":
                raise ValueError(f"`{expression}` has an open parenthesis")
            take()
            return value
        if peek() == "WITH":
            take()
            if peek() is None or peek() in ("(", ")", "AND", "OR", "WITH"):
                raise ValueError(f"`{expression}` names no exception")
            token = f"{token} WITH {take()}"
        return token in allowed

    value = either()
    if peek() is not None:
        raise ValueError(f"`{expression}` goes on behind its end")
    return value


def version_key(text):
    """Sorts as semantic versions do: a pre-release comes before its release, build metadata do not count."""
    core, _, pre = text.strip().split("+")[0].partition("-")
    numbers = [int(part) for part in core.split(".")]
    numbers += [0] * (3 - len(numbers))
    parts = [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in pre.split(".")] if pre else []
    return (numbers, not pre, parts)


def next_breaking(numbers, parts_given):
    """The first version that a caret requirement does not mean."""
    for place, number in enumerate(numbers):
        if number > 0 or place == parts_given - 1:
            return [*numbers[:place], number + 1, *[0] * (2 - place)]
    return [0, 0, 1]


def fits(version, requirement):
    """Whether a version fits a requirement as the advisories write them, such as `>= 1.2, < 2`; raises ValueError."""
    for part in requirement.split(","):
        part = part.strip()
        if part == "*":
            continue
        found = re.fullmatch(r"(>=|<=|>|<|=|\^|~)?\s*([0-9][0-9A-Za-z.+-]*)", part)
        if not found:
            raise ValueError(f"`{requirement}` is no requirement")
        operator, text = found[1] or "^", found[2]
        key, wanted = version_key(version), version_key(text)
        given = len(text.split("-")[0].split("."))
        if operator == "~":
            above = wanted[0][:1] if given == 1 else wanted[0][:2]
            holds = key >= wanted and key < ([*above[:-1], above[-1] + 1, *[0] * (3 - len(above))], False, [])
        elif operator == "^":
            holds = key >= wanted and key < (next_breaking(wanted[0], given), False, [])
        else:
            holds = {">=": key >= wanted, "<=": key <= wanted, ">": key > wanted, "<": key < wanted, "=": key == wanted}[operator]
        if not holds:
            return False
    return True


def locked(text):
    """The packages of a Cargo.lock as (name, version), without those of this repository."""
    packages = tomllib.loads(text).get("package", [])
    return sorted((package["name"], package["version"]) for package in packages if "source" in package)


def check_licences(packages, policy):
    licences = policy["licences"]
    exceptions = {one["package"]: one["reason"] for one in licences.get("exception", [])}
    used = set()
    for package in packages:
        name = f"{package['name']} {package['version']}"
        expression = package.get("license")
        try:
            allowed = bool(expression) and licence_is_allowed(expression, set(licences["allowed"]))
        except ValueError as error:
            yield f"{name}: {error}"
            continue
        if allowed:
            continue
        if package["name"] in exceptions:
            used.add(package["name"])
            continue
        yield f"{name}: its licence `{expression or 'none'}` is not allowed"
    for package in exceptions.keys() - used:
        yield f"policy.toml: the exception for {package} concerns nothing"


def check_sources(packages, policy):
    for package in packages:
        # Only what lies in this repository has no source.
        source, own = package.get("source"), package["name"] == "metergate"
        if not (own and source is None) and source not in policy["sources"]["allowed"]:
            yield f"{package['name']} {package['version']}: comes from {source or 'a path'}"


def check_versions(lock, policy):
    for name in policy["once"]["packages"]:
        versions = [version for other, version in lock if other == name]
        if len(versions) > 1:
            yield f"{name}: there are {len(versions)} versions of it: {', '.join(versions)}"
    for floor in policy["floor"]:
        versions = [version for name, version in lock if name == floor["package"]]
        if not versions:
            yield f"policy.toml: the floor of {floor['package']} concerns nothing"
        for version in versions:
            if version_key(version) < version_key(floor["version"]):
                yield f"{floor['package']} {version}: below {floor['version']}: {floor['reason']}"


def advisories(folder):
    """Each advisory of the database as its parsed front matter."""
    for path in sorted(pathlib.Path(folder, "crates").glob("*/RUSTSEC-*.md")):
        found = FRONT_MATTER.search(path.read_text(encoding="utf-8"))
        if not found:
            raise ValueError(f"{path} has no front matter")
        yield tomllib.loads(found[1])


def check_advisories(lock, folder, policy):
    accepted = {one["id"] for one in policy["accepted"]}
    looked_at = 0
    for entry in advisories(folder):
        looked_at += 1
        advisory, versions = entry["advisory"], entry.get("versions", {})
        if advisory.get("withdrawn") or advisory["id"] in accepted:
            continue
        safe = [*versions.get("patched", []), *versions.get("unaffected", [])]
        for name, version in lock:
            if name == advisory["package"] and not any(fits(version, requirement) for requirement in safe):
                kind = advisory.get("informational", "vulnerability")
                yield f"{name} {version}: {advisory['id']} ({kind}), see https://rustsec.org/advisories/{advisory['id']}"
    if looked_at == 0:
        yield f"{folder}: there are no advisories in it"


def database():
    """The folder of the advisory database, or None."""
    named = os.environ.get("METERGATE_ADVISORY_DB")
    if named:
        return named
    usual = pathlib.Path(os.environ.get("CARGO_HOME") or pathlib.Path.home() / ".cargo", "advisory-db")
    return usual if usual.is_dir() else None


def check(metadata, lock_text, policy, folder):
    """Every fault, and what the check is to say of itself."""
    packages, lock = metadata["packages"], locked(lock_text)
    faults = [*check_licences(packages, policy), *check_sources(packages, policy), *check_versions(lock, policy)]
    names = {name for name, _ in lock}
    for one in policy["accepted"]:
        if one["package"] not in names:
            faults.append(f"policy.toml: {one['id']} is accepted for {one['package']}, which is no dependency")
    seen = {(package["name"], package["version"]) for package in packages}
    elsewhere = sum(package not in seen for package in lock)
    told = [
        f"{len(packages)} packages: licences and sources allowed",
        f"{len(policy['floor'])} floors of versions hold; accepted: {', '.join(one['id'] for one in policy['accepted'])}",
    ]
    if elsewhere:
        told.append(f"not looked at: the licences of {elsewhere} packages that only other systems need")
    if folder is None:
        told.append(
            f"COULD NOT look for advisories: no RustSec database at hand (METERGATE_ADVISORY_DB); {len(lock)} packages "
            "were only compared with the floors"
        )
    else:
        faults += check_advisories(lock, folder, policy)
        told.append(f"{len(lock)} packages compared with the advisories in {folder}")
    return faults, told


def main(metadata_path, lock_path, policy_path):
    metadata = json.loads(pathlib.Path(metadata_path).read_text(encoding="utf-8"))
    policy = tomllib.loads(pathlib.Path(policy_path).read_text(encoding="utf-8"))
    lock = pathlib.Path(lock_path).read_text(encoding="utf-8")
    faults, told = check(metadata, lock, policy, database())
    for fault in faults:
        print(fault, file=sys.stderr)
    if faults:
        return 1
    print("\n".join(told))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
