#!/usr/bin/env bash
# Run the core tests in another release of Airflow: `scripts/test-airflow.sh 3.1`, with pytest's own options after it.
# Its virtual environment, .venv-3.1, has the packages of constraints/airflow-3.1.txt.
set -euo pipefail
cd "$(dirname "$0")/.."

release=$1
shift
# The tests of what stands on Airflow; the rest of the suite runs the same code in every release.
tests=(tests/decorators tests/operators tests/sensors tests/deployment tests/plugin tests/hooks tests/config tests/planning
    tests/doctor tests/runtimes tests/testing tests/test_provider.py tests/test_imports.py
    tests/integration/test_dag_test.py tests/integration/test_own_materializers.py)

if [ "$release" = "$(.venv/bin/python -c 'from importlib.metadata import version as v; print(*v("apache-airflow-core").split(".")[:2], sep=".")')" ]; then
    venv=.venv
else
    venv=.venv-$release
    constraints=constraints/airflow-$release.txt
    [ -f "$constraints" ] || { echo "test-airflow: there is no $constraints; make constraints writes one" >&2; exit 1; }
    state=$(cat setup.cfg "$constraints" | cksum)
    if [ "$(cat "$venv/.setup-stamp" 2>/dev/null)" != "$state" ]; then
        echo "test-airflow: installing Airflow $release into $venv (some minutes the first time)"
        [ -x "$venv/bin/python" ] || .venv/bin/uv venv --quiet --python .venv/bin/python "$venv"
        .venv/bin/uv pip install --quiet --python "$venv/bin/python" --compile-bytecode --constraint "$constraints" --editable '.[test]' uv
        rm -rf airflow_provider_zen.egg-info
        printf '%s' "$state" >"$venv/.setup-stamp"
    fi
fi
echo "== Airflow $("$venv/bin/python" -c 'from importlib.metadata import version as v; print(v("apache-airflow-core"))')"
"$venv/bin/python" -m pytest -m 'not slow and not ml' "${tests[@]}" "$@"
# The life of a model in the processes of this release; 5 says that options have selected none of it.
"$venv/bin/python" -m pytest tests/integration/test_real_airflow_models.py "$@" || [ $? = 5 ]
