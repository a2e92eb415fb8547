"""Promises about the structure of the package, as `scripts/structure.py` measures it."""

from scripts import structure


def test_no_file_is_in_an_import_cycle():
    """No file imports itself through others, not even inside functions."""
    graph, files = structure.import_graph()
    assert structure.files_in_cycles(graph, files) == set()


def test_files_and_functions_are_short():
    """No file has more than 400 lines, and 97 % of the functions have at most 20."""
    lengths, functions = structure.file_lengths(), structure.function_lengths()
    assert [file for file, length in lengths.items() if length > 400] == []
    assert sum(length <= structure.MAX_LINES for length in functions) >= 0.97 * len(functions)
