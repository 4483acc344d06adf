"""What others may rely on; a change here is a change of a contract."""

import inspect
import subprocess
import sys

import genopt_pipeline
from genopt_pipeline.core import attribution, policies


def test_engines_find_the_selector_and_nothing_else():
    assert sorted(genopt_pipeline.__all__) == ["GeneratorSelector", "Selection", "__version__"]
    assert all(hasattr(genopt_pipeline, name) for name in genopt_pipeline.__all__)


def test_the_selector_draws_with_the_agreed_arguments():
    selector = inspect.signature(genopt_pipeline.GeneratorSelector)
    assert next(iter(selector.parameters)) == "url"
    select = inspect.signature(genopt_pipeline.GeneratorSelector.select).parameters
    assert list(select)[:3] == ["self", "arm", "rng"]
    assert select["arm"].default == "control"
    assert select["rng"].default is None
    assert callable(genopt_pipeline.GeneratorSelector.record_post)
    assert list(genopt_pipeline.Selection.__annotations__)[:4] == [
        "generator_name",
        "probability",
        "experiment_arm",
        "weights_version",
    ]


def test_core_has_its_two_contracts():
    attribute = inspect.signature(attribution.attribute_followers).parameters
    assert list(attribute) == ["deltas", "exposures", "config"]
    assert attribute["config"].kind is inspect.Parameter.KEYWORD_ONLY
    propose = inspect.signature(policies.propose_weights).parameters
    assert list(propose)[:4] == ["posts", "current", "now", "config"]
    assert propose["now"].kind is inspect.Parameter.KEYWORD_ONLY


def test_importing_the_package_loads_neither_dagster_nor_a_database_driver():
    code = (
        "import sys, genopt_pipeline; "
        "print([m for m in ('dagster', 'sqlalchemy', 'psycopg', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
