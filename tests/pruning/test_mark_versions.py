"""Promises of pruning for versions of named artifacts."""

import time

from airflow_zen.pruning.retention import DAY


def add_versions(stack, name, *days_ago):
    """Make a version of a name for each age."""
    return [stack.names.add(name, stack.save([name, age]).ref, time.time() - age * DAY).version for age in days_ago]


def version_names(stack, name):
    return [version.version for version in stack.names.versions(name)]


def all_stored(stack, name):
    return not stack.store.missing([version.ref for version in stack.names.versions(name)])


def test_the_newest_stay(stack, prune_twice):
    """The newest versions of each name stay at any age; older ones are deleted with their artifacts."""
    old = add_versions(stack, "features", 400, 300, 200, 100)
    only = add_versions(stack, "flights/raw", 500)
    report = prune_twice(stack, 2, older_than=90 * DAY, keep_last=2)
    assert version_names(stack, "features") == [old[3], old[2]]
    assert version_names(stack, "flights/raw") == only
    assert report.deleted.artifacts == 2
    assert all_stored(stack, "features")


def test_the_young_stay(stack, prune_twice):
    """No version younger than the age is deleted, however many there are."""
    all_of_them = add_versions(stack, "features", 5, 4, 3, 2, 1)
    prune_twice(stack, 2, older_than=90 * DAY, keep_last=1)
    assert version_names(stack, "features") == all_of_them[::-1]


def test_keep_last_alone(stack, prune_twice):
    """Without an age only versions beyond the newest are deleted, at any age."""
    names = add_versions(stack, "features", 5, 4, 3, 2)
    prune_twice(stack, 2, keep_last=1)
    assert version_names(stack, "features") == [names[-1]]


def test_without_either_all_versions_stay(stack, prune_twice):
    """With neither an age nor a number every version stays."""
    names = add_versions(stack, "features", 900, 800)
    assert prune_twice(stack, 2).kept.artifacts == 2
    assert version_names(stack, "features") == names[::-1]


def test_tagged_versions_are_pinned(stack, prune_twice):
    """A tag keeps a version of any age; without the tag it is deleted."""
    first, _, newest = add_versions(stack, "features", 400, 300, 200)
    stack.names.tag("features", first, "golden")
    prune_twice(stack, 2, older_than=90 * DAY)
    assert version_names(stack, "features") == [newest, first]
    assert all_stored(stack, "features")
    stack.names.untag("features", first, "golden")
    prune_twice(stack, 2, older_than=90 * DAY)
    assert version_names(stack, "features") == [newest]


def test_names_that_are_no_longer_made(stack, run, prune_twice):
    """With `keep_last` 0 old names are deleted, unless recent runs still make the same content."""
    add_versions(stack, "retired", 400)
    version = add_versions(stack, "daily", 400)
    run(stack, daily, "daily", 400)
    prune_twice(stack, 2, older_than=90 * DAY, keep_last=0)
    assert (version_names(stack, "retired"), version_names(stack, "daily")) == ([], version)


def daily(name: str, age: int) -> list:
    return [name, age]


def test_content_of_a_kept_version_stays(stack, prune_twice):
    """Content that an old version shares with a kept one, of the same name or another, stays."""
    ref = stack.save("shared").ref
    stack.names.add("a", ref, time.time() - 300 * DAY)
    stack.names.add("a", stack.save("newer").ref, time.time() - 200 * DAY)
    stack.names.add("b", ref, time.time() - 400 * DAY)
    report = prune_twice(stack, 2, older_than=90 * DAY)
    assert report.deleted.artifacts == 0
    assert not stack.store.missing([ref])


def test_versions_in_quarantine_do_not_displace_published_ones(stack, prune_twice):
    """The newest published version stays although a newer one is in quarantine, and so does the newest of these."""
    (published,) = add_versions(stack, "features", 300)
    kept = []
    for age in (200, 100):
        ref = stack.save(["in quarantine", age]).ref
        kept.append(stack.names.next_in_quarantine("features", ref, time.time() - age * DAY))
        stack.names.write(kept[-1])
    prune_twice(stack, 2, older_than=90 * DAY, keep_last=1)
    assert version_names(stack, "features") == [published, kept[-1].recorded.version]
    assert all_stored(stack, "features")
