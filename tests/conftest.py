"""Settings of every test: strict JAX, 8 simulated CPU devices, shared compilations."""

import gc
import os
import pathlib
import tempfile

# Before the first use of JAX: tests run on the CPU, whatever the machine has.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Programs here run for milliseconds and compile for seconds: LLVM's optimisations are
# left out, which nearly halves the suite. What XLA itself does is unchanged.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_legacy_prng_key", "error")

# Compiled programs are shared between the workers and tests of one session.
_CACHE = os.environ.get("JNAS_TEST_CACHE") or os.path.join(
    tempfile.gettempdir(), f"jnas-test-cache-{os.getuid()}"
)
jax.config.update("jax_compilation_cache_dir", _CACHE)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


# Each compiled program maps some twenty pieces of memory, and Linux lets a process have
# 65,530: a worker that ran some thousand tests died of it.
_MOST_MAPPINGS = 25_000


def _mappings() -> int:
    try:
        with open("/proc/self/maps", "rb") as file:
            return sum(1 for _ in file)
    except OSError:  # not on Linux
        return 0


@pytest.fixture(autouse=True, scope="module")
def _room_for_programs():
    """Forgets compiled programs after a module, once there are very many."""
    yield
    if _mappings() > _MOST_MAPPINGS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def data_folder() -> pathlib.Path:
    """The folder of real benchmark data named by JNAS_DATA; skips without it."""
    folder = os.environ.get("JNAS_DATA")
    if not folder or not pathlib.Path(folder).is_dir():
        pytest.skip("JNAS_DATA does not name a folder with the benchmark data")
    return pathlib.Path(folder)


@pytest.fixture
def x64():
    """Runs a test in float64."""
    with jax.enable_x64(True):
        yield
