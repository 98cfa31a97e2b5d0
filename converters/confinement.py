"""Bounds for a process that reads an untrusted file: memory, time, file size, network, folder and environment.

Only the standard library is used, and each bound is skipped where the platform does not know it: Linux has all of
them, macOS has no network namespaces and does not enforce memory limits, Windows has only the folder and the
environment.
"""

import contextlib
import ctypes
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_NEW_USERS, _NEW_NETWORK = 0x10000000, 0x40000000  # CLONE_NEWUSER, CLONE_NEWNET of linux/sched.h

# What a process needs of its surroundings. Everything else stays behind: tokens and keys live in the environment.
_NEEDED = frozenset(
    """
    PATH LANG LANGUAGE TZ LD_LIBRARY_PATH DYLD_LIBRARY_PATH VIRTUAL_ENV CONDA_PREFIX SYSTEMROOT WINDIR COMSPEC
    PATHEXT PYTHONPATH PYTHONHOME PYTHONHASHSEED PYTHONWARNINGS PYTHONDONTWRITEBYTECODE PYTHONFAULTHANDLER
    PYTHONOPTIMIZE PYTHONUTF8 PYTHONIOENCODING COVERAGE_PROCESS_START
    """.split()
)
_NEEDED_FAMILIES = ("LC_", "TF_CPP_", "TF_ENABLE_", "TF_NUM_", "TF_XLA_", "OMP_", "MKL_", "OPENBLAS_", "KMP_")
_FOR_DOWNLOADS = frozenset(
    "http_proxy https_proxy no_proxy all_proxy ssl_cert_file ssl_cert_dir requests_ca_bundle curl_ca_bundle".split()
)


@dataclass(frozen=True)
class Limits:
    """What a process may use; None is no limit.

    Attributes
    ----------
    memory : int or None
        Bytes of memory of its own (`RLIMIT_DATA`; mapped files do not count).
    cpu_seconds : int or None
        Processor time, all threads together.
    file_size : int or None
        Bytes of the largest file that it writes.
    """

    memory: int | None = None
    cpu_seconds: int | None = None
    file_size: int | None = None

    def to_json(self) -> dict[str, int | None]:
        """As JSON values, for a job."""
        return asdict(self)

    def apply(self) -> None:
        """Set them for this process, for good. A limit that the system already holds tighter stays as it is."""
        if resource is None:
            return
        wanted = {
            resource.RLIMIT_CORE: 0,
            resource.RLIMIT_DATA: self.memory,
            resource.RLIMIT_CPU: self.cpu_seconds,
            resource.RLIMIT_FSIZE: self.file_size,
        }
        for kind, value in wanted.items():
            if value is None:
                continue
            _, hard = resource.getrlimit(kind)
            bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(kind, (bound, bound))


def leave_network() -> bool:
    """Move this process into a network of its own, in which there is nobody else.

    Must be called before a second thread exists. Unix sockets that are files are still reachable.

    Returns
    -------
    bool
        Whether it worked: on Linux, as root or where ordinary users may make namespaces.
    """
    if not sys.platform.startswith("linux"):
        return False
    user, group = os.getuid(), os.getgid()
    try:
        unshare = ctypes.CDLL(None, use_errno=True).unshare
    except (OSError, AttributeError):
        return False
    if unshare(_NEW_NETWORK) == 0:
        return True
    if unshare(_NEW_USERS | _NEW_NETWORK) != 0:
        return False
    # without a map every file seems to be nobody's
    with contextlib.suppress(OSError):
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    return True


def environment(home: Path, *, network: bool = False) -> dict[str, str]:
    """The variables for a confined process, whose home and temporary folder is `home`.

    With `network`, also what a download needs: proxies, certificates and the folder where Keras keeps weights.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _NEEDED or name.startswith(_NEEDED_FAMILIES) or (network and name.lower() in _FOR_DOWNLOADS)
    }
    if "PYTHONPATH" in kept:
        # the process works in another folder
        kept["PYTHONPATH"] = os.pathsep.join(
            str(Path(entry).absolute()) for entry in kept["PYTHONPATH"].split(os.pathsep) if entry
        )
    for name in ("HOME", "USERPROFILE", "TMPDIR", "TEMP", "TMP"):
        kept[name] = str(home)
    if network:
        kept["KERAS_HOME"] = os.environ.get("KERAS_HOME") or str(Path.home() / ".keras")
    return kept


def physical_memory() -> int | None:
    """Bytes of memory of this machine, where the system tells it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
