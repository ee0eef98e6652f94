"""What is asked of Ray for a host."""

from effect_ray_gateway import placement
from effect_ray_gateway.pool_spec import PoolSpec
from support.fake import spec

GATEWAY = ("127.0.0.1", 1)


def environment(cluster):
    return cluster._options("host", PoolSpec.read(spec()))["runtime_env"]


def test_a_gateway_does_not_ask_for_an_environment_that_another_could_not_have():
    one, other = placement.RayCluster(GATEWAY, "one"), placement.RayCluster(GATEWAY, "other")
    assert environment(one) == environment(one) != environment(other)
    before = environment(one)
    one._tries[placement._environment(PoolSpec.read(spec()))] = 1
    assert environment(one) != before


TRACEBACK = """Failed to set up runtime environment.
Could not create the actor because its associated runtime env failed to be created.
[Node 127.0.0.1] Traceback (most recent call last):
  File "/ray/_private/runtime_env/agent/runtime_env_agent.py", line 561, in _create_runtime_env_with_retry
    runtime_env_context = await asyncio.wait_for(
                          ^^^^^^^^^^^^^^^^^^^^^^^
  File "/ray/_private/runtime_env/utils.py", line 105, in check_output_cmd
    raise SubprocessCalledProcessError(
"""
PIP = """ray._private.runtime_env.utils.SubprocessCalledProcessError: Run cmd[13] failed with the following details.
Command '['python', '-m', 'pip', 'install', '-r', 'requirements.txt']' returned non-zero exit status 1.
Last 50 lines of stdout:
    Looking in links: /wheels
"""


class RuntimeEnvSetupError(Exception):
    """Named as Ray's."""


def words(text):
    return placement._words(RuntimeEnvSetupError(text))


def test_the_words_of_pip_come_first():
    versions = ", ".join(f"1.{number}" for number in range(1000))
    found = words(f"""{TRACEBACK}{PIP}    ERROR: Could not find a version that satisfies the requirement x==2 (from versions: {versions})
    ERROR: No matching distribution found for x==2
""")
    assert found.startswith("RuntimeEnvSetupError: ERROR: No matching distribution found for x==2 ERROR: Could not find a version")
    assert len(found) == placement.MAX_DETAIL


def test_what_a_setup_says_comes_before_what_pip_says_of_it():
    found = words(f"""{TRACEBACK}{PIP}      error: subprocess-exited-with-error
      × python setup.py egg_info did not run successfully.
      ╰─> [6 lines of output]
          Traceback (most recent call last):
            File "<string>", line 2, in <module>
              setup()
          RuntimeError: no compiler
          [end of output]
    error: metadata-generation-failed
""")
    assert found == "RuntimeEnvSetupError: RuntimeError: no compiler [end of output] error: metadata-generation-failed"


def test_the_reason_comes_without_rays_frames():
    assert words(f"{TRACEBACK}OSError: Failed to download gcs://a.zip\n") == "RuntimeEnvSetupError: OSError: Failed to download gcs://a.zip"
    assert words("The actor died.\n  It was killed.") == "RuntimeEnvSetupError: The actor died. It was killed."


def test_of_what_is_said_at_length_the_last_words_are_kept():
    found = words("Collecting\n" * 10_000 + "no space left")
    assert found.startswith("RuntimeEnvSetupError: …") and found.endswith("no space left")
    assert len(found) == placement.MAX_DETAIL
