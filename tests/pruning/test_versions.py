"""Promises of pruning about versions of named artifacts."""

import time

from airflow_zen.pruning.retention import DAY


def versions(stack, name, *days_ago):
    """Make a version of a name for each of these ages."""
    return [stack.names.add(name, stack.save([name, age]).ref, time.time() - age * DAY).version for age in days_ago]


def left(stack, name):
    return [version.version for version in stack.names.versions(name)]


def readable(stack, name):
    return not stack.store.missing([version.ref for version in stack.names.versions(name)])


def test_the_newest_stay(stack, gone):
    """Of each name the newest versions stay, whatever their age; older ones go with their artifacts."""
    old = versions(stack, "features", 400, 300, 200, 100)
    only = versions(stack, "flights/raw", 500)
    report = gone(stack, 2, older_than=90 * DAY, keep_last=2)
    assert left(stack, "features") == [old[3], old[2]]
    assert left(stack, "flights/raw") == only
    assert report.deleted.artifacts == 2
    assert readable(stack, "features")


def test_the_young_stay(stack, gone):
    """No version younger than the age goes, however many there are."""
    all_of_them = versions(stack, "features", 5, 4, 3, 2, 1)
    gone(stack, 2, older_than=90 * DAY, keep_last=1)
    assert left(stack, "features") == all_of_them[::-1]


def test_keep_last_alone(stack, gone):
    """Without an age versions beyond the newest go at any age, and nothing else does."""
    names = versions(stack, "features", 5, 4, 3, 2)
    gone(stack, 2, keep_last=1)
    assert left(stack, "features") == [names[-1]]


def test_without_either_none_goes(stack, gone):
    """With neither an age nor a number every version stays."""
    names = versions(stack, "features", 900, 800)
    assert gone(stack, 2).kept.artifacts == 2
    assert left(stack, "features") == names[::-1]


def test_tagged_versions_are_pinned(stack, gone):
    """A tag keeps a version of any age; without the tag it goes."""
    first, _, newest = versions(stack, "features", 400, 300, 200)
    stack.names.tag("features", first, "golden")
    gone(stack, 2, older_than=90 * DAY)
    assert left(stack, "features") == [newest, first]
    assert readable(stack, "features")
    stack.names.untag("features", first, "golden")
    gone(stack, 2, older_than=90 * DAY)
    assert left(stack, "features") == [newest]


def test_names_that_are_no_longer_made(stack, run, gone):
    """With none to keep, a name goes whose newest version is old, unless recent runs make the same content still."""
    versions(stack, "retired", 400)
    version = versions(stack, "daily", 400)
    run(stack, daily, "daily", 400)
    gone(stack, 2, older_than=90 * DAY, keep_last=0)
    assert (left(stack, "retired"), left(stack, "daily")) == ([], version)


def daily(name: str, age: int) -> list:
    return [name, age]


def test_content_of_a_kept_version_stays(stack, gone):
    """Content that an old version shares with a kept one, of the same name or another, stays."""
    ref = stack.save("shared").ref
    stack.names.add("a", ref, time.time() - 300 * DAY)
    stack.names.add("a", stack.save("newer").ref, time.time() - 200 * DAY)
    stack.names.add("b", ref, time.time() - 400 * DAY)
    report = gone(stack, 2, older_than=90 * DAY)
    assert report.deleted.artifacts == 0
    assert not stack.store.missing([ref])
