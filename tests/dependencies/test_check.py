"""Shows that check.py can fail: a forbidden licence, a version below its floor, a foreign source, an advisory."""

import pathlib
import tempfile
import unittest

import check

CRATES_IO = "registry+https://github.com/rust-lang/crates.io-index"
POLICY = {
    "licences": {"allowed": ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "Unicode-3.0"]},
    "sources": {"allowed": [CRATES_IO]},
    "once": {"packages": ["tokio"]},
    "floor": [{"package": "tokio", "version": "1.44.2", "reason": "a fault"}],
    "accepted": [{"id": "RUSTSEC-2025-0141", "package": "bincode", "reason": "pinned"}],
}
ADVISORY = """```toml
[advisory]
id = "RUSTSEC-2099-0001"
package = "tokio"
date = "2099-01-01"
{more}
[versions]
patched = ["{patched}"]
unaffected = ["< 0.2"]
```

# Something is wrong
"""


def package(name="tokio", version="1.50.0", licence="MIT", source=CRATES_IO):
    return {"name": name, "version": version, "license": licence, "source": source}


def lock(*packages):
    lines = [f'[[package]]\nname = "{name}"\nversion = "{version}"\nsource = "x"\n' for name, version in packages]
    return "\n".join([*lines, '[[package]]\nname = "metergate"\nversion = "0.1.0"\n'])


USUAL_LOCK = lock(("bincode", "2.0.1"), ("tokio", "1.50.0"))


def faults(packages=(), lock_text=USUAL_LOCK, policy=POLICY, folder=None):
    return check.check({"packages": list(packages)}, lock_text, policy, folder)[0]


class Licences(unittest.TestCase):
    def test_an_expression_is_allowed_when_one_choice_is(self):
        allowed = set(POLICY["licences"]["allowed"])
        for expression, expected in [
            ("MIT", True),
            ("GPL-3.0", False),
            ("GPL-3.0 OR MIT", True),
            ("MIT/GPL-3.0", True),
            ("MIT AND GPL-3.0", False),
            ("(MIT OR GPL-3.0) AND Unicode-3.0", True),
            ("MIT OR GPL-3.0 AND BUSL-1.1", True),
            ("(MIT OR GPL-3.0) AND BUSL-1.1", False),
            ("Apache-2.0 WITH LLVM-exception", True),
            ("GPL-2.0 WITH Classpath-exception-2.0", False),
            ("MIT WITH LLVM-exception", False),
        ]:
            self.assertEqual(check.licence_is_allowed(expression, allowed), expected, expression)
        for broken in ["", "MIT OR", "(MIT", "MIT MIT", "AND", "MIT WITH", "MIT)"]:
            with self.assertRaises(ValueError, msg=broken):
                check.licence_is_allowed(broken, allowed)

    def test_a_forbidden_a_missing_and_a_broken_licence_are_faults(self):
        for licence in ["AGPL-3.0", None, "MIT AND"]:
            self.assertEqual(len(faults([package(licence=licence)])), 1, licence)
        self.assertEqual(faults([package()]), [])

    def test_an_exception_holds_for_its_package_and_goes_stale(self):
        licences = {**POLICY["licences"], "exception": [{"package": "odd", "reason": "asked its author"}]}
        policy = {**POLICY, "licences": licences}
        self.assertEqual(faults([package("odd", licence="Odd")], policy=policy), [])
        self.assertIn("concerns nothing", faults([package()], policy=policy)[0])


class Versions(unittest.TestCase):
    def test_a_version_below_its_floor_and_a_floor_of_nothing_are_faults(self):
        self.assertEqual(len(faults(lock_text=lock(("bincode", "2.0.1"), ("tokio", "1.44.1")))), 1)
        self.assertEqual(len(faults(lock_text=lock(("bincode", "2.0.1"), ("tokio", "1.44.2-rc.1")))), 1)
        self.assertEqual(faults(lock_text=lock(("bincode", "2.0.1"), ("tokio", "1.100.0"))), [])
        self.assertIn("concerns nothing", faults(lock_text=lock(("bincode", "2.0.1")))[0])

    def test_two_versions_of_what_is_there_once_are_a_fault(self):
        text = lock(("bincode", "2.0.1"), ("tokio", "1.50.0"), ("tokio", "2.0.0"))
        self.assertIn("2 versions", faults(lock_text=text)[0])

    def test_a_foreign_source_is_a_fault(self):
        for source in [None, "git+https://example.com/tokio"]:
            self.assertIn("comes from", faults([package(source=source)])[0])
        self.assertEqual(faults([package("metergate", source=None)]), [])

    def test_requirements_are_read_as_cargo_reads_them(self):
        for version, requirement, expected in [
            ("1.2.3", ">= 1.2.3", True),
            ("1.2.2", ">= 1.2.3", False),
            ("1.2.3-rc.1", ">= 1.2.3", False),
            ("0.11.7", ">= 0.11.6, < 0.12.0", True),
            ("0.12.0", ">= 0.11.6, < 0.12.0", False),
            ("1.9.0", "^1.2", True),
            ("2.0.0", "^1.2", False),
            ("0.2.9", "^0.2.3", True),
            ("0.3.0", "^0.2.3", False),
            ("0.0.4", "^0.0.3", False),
            ("1.2.9", "~1.2.3", True),
            ("1.3.0", "~1.2.3", False),
            ("1.9.0", "~1", True),
            ("1.2.3+build", "= 1.2.3", True),
            ("1.10.0", "> 1.9.0", True),
            ("9.9.9", "*", True),
        ]:
            self.assertEqual(check.fits(version, requirement), expected, f"{version} {requirement}")
        with self.assertRaises(ValueError):
            check.fits("1.0.0", "about 1")


class Advisories(unittest.TestCase):
    def against(self, patched, more="", name="RUSTSEC-2099-0001.md"):
        with tempfile.TemporaryDirectory() as folder:
            crate = pathlib.Path(folder, "crates", "tokio")
            crate.mkdir(parents=True)
            text = ADVISORY.format(patched=patched, more=more)
            crate.joinpath(name).write_text(text, encoding="utf-8")
            return faults(folder=folder)

    def test_an_advisory_that_concerns_a_locked_version_is_a_fault(self):
        self.assertIn("RUSTSEC-2099-0001", self.against(">= 1.50.1")[0])
        self.assertEqual(self.against(">= 1.50.0"), [])
        self.assertEqual(self.against(">= 1.50.1", 'withdrawn = "2099-02-01"'), [])

    def test_a_database_without_advisories_is_no_database(self):
        self.assertIn("no advisories", self.against(">= 1.0", name="README.md")[0])

    def test_without_a_database_it_says_so_and_how_much_that_leaves(self):
        told = check.check({"packages": []}, USUAL_LOCK, POLICY, None)[1]
        self.assertIn("COULD NOT look for advisories", told[-1])
        self.assertIn("2 packages", told[-1])

    def test_an_acceptance_of_nothing_is_a_fault(self):
        self.assertIn("no dependency", faults(lock_text=lock(("tokio", "1.50.0")))[0])


if __name__ == "__main__":
    unittest.main(verbosity=0)
