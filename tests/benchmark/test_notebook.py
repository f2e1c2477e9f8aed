"""A real notebook, executed: a detector of a cell runs, the bar is one output drawn in place."""

from __future__ import annotations

from pathlib import Path

from needs import needed_module

needed_module("ipykernel", "ipykernel is not installed")
nbclient = needed_module("nbclient", "nbclient is not installed")
nbformat = needed_module("nbformat", "nbformat is not installed")

DEFINITION = """
from oodbench import Detector, leaderboard, register, run

@register("brightest", cite="test", title="Brightest pixel")
class Brightest(Detector):
    def measure(self, images):
        return {"value": images.double().flatten(1).amax(1)}

    def score(self, statistics):
        return statistics["value"]
"""
CELLS = (
    DEFINITION,
    'frame = run("china-flower", ["brightest", "mean-intensity"])',
    # The leaderboard has the best first.
    "sorted(set(frame.detector)), sorted(leaderboard().value) == sorted(frame.value)",
    'run("china-flower", "brightest", quiet=True).shape',
    'run("china-flowr")',
    f"# as before\n{DEFINITION}",
    'run("china-flower", "brightest", quiet=True).shape',
    DEFINITION.replace("amax", "amin"),
    'run("china-flower", "brightest", quiet=True).shape',
)


def test_a_notebook_runs_and_shows_one_bar(tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in CELLS])
    nbclient.NotebookClient(
        notebook, allow_errors=True, timeout=300, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    define, run, table, quiet, wrong, *edited = [cell.outputs for cell in notebook.cells]
    assert define == []
    (bar,) = run  # one display for four measurements, and nothing on standard error
    assert bar.data["text/plain"] == "measure flower test: 250/250"
    assert '<progress value="250" max="250">' in bar.data["text/html"]
    assert table[0].data["text/plain"] == "(['Brightest pixel', 'Mean intensity'], True)"
    assert [output.output_type for output in quiet] == ["execute_result"]
    assert wrong[0].ename == "UnknownNameError"
    assert "nearest: china-flower" in wrong[0].evalue
    assert [len(outputs) for outputs in edited] == [0, 1, 0, 2]
    assert "the source of detector 'brightest' is not that of" in edited[3][0].text
