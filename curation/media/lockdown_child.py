"""What a decoder's process gives up before it reads the first untrusted byte.

Loaded as a file by the children; standard library only.
"""

import resource
import struct
import sys
from typing import Any

# System calls that decoding never needs, by name, with their numbers (Linux: arch/x86/entry/syscalls/syscall_64.tbl;
# include/uapi/asm-generic/unistd.h). Denied with EPERM rather than death, for a library may ask and live without.
_DENIED = {
    "x86_64": {
        "open": 2, "socket": 41, "connect": 42, "bind": 49, "listen": 50, "socketpair": 53, "fork": 57, "vfork": 58,
        "execve": 59, "kill": 62, "truncate": 76, "rename": 82, "mkdir": 83, "rmdir": 84, "creat": 85, "link": 86,
        "unlink": 87, "symlink": 88, "chmod": 90, "chown": 92, "ptrace": 101, "mount": 165, "tkill": 200,
        "openat": 257, "mkdirat": 258, "unlinkat": 263, "renameat": 264, "linkat": 265, "symlinkat": 266,
        "fchmodat": 268, "process_vm_readv": 310, "process_vm_writev": 311, "renameat2": 316, "bpf": 321,
        "execveat": 322, "io_uring_setup": 425, "openat2": 437,
    },
    "aarch64": {
        "mkdirat": 34, "unlinkat": 35, "symlinkat": 36, "linkat": 37, "renameat": 38, "mount": 40, "truncate": 45,
        "fchmodat": 53, "fchownat": 54, "openat": 56, "ptrace": 117, "kill": 129, "tkill": 130, "socket": 198,
        "socketpair": 199, "bind": 200, "listen": 201, "connect": 203, "execve": 221, "process_vm_readv": 270,
        "process_vm_writev": 271, "renameat2": 276, "bpf": 280, "execveat": 281, "io_uring_setup": 425,
        "openat2": 437,
    },
}  # fmt: skip
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # linux/audit.h
_LD_WORD, _JUMP_EQUAL, _JUMP_NOT_LESS, _RETURN = 0x20, 0x15, 0x35, 0x06  # linux/bpf_common.h
_X32_CALLS = 0x40000000  # x86-64's second table of system calls, of the same programs
_ALLOW, _DENY = 0x7FFF0000, 0x00050000 | 1  # linux/seccomp.h: SECCOMP_RET_ALLOW; SECCOMP_RET_ERRNO | EPERM
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _MODE_FILTER = 38, 22, 2


def limit_resources(max_memory_bytes: int) -> None:
    """No core dumps, no files written, few open, bounded memory. For good."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
    if sys.platform != "darwin":  # macOS accepts RLIMIT_AS and does not enforce it
        resource.setrlimit(resource.RLIMIT_AS, (max_memory_bytes, max_memory_bytes))


def refresh_cpu_limit(seconds: float) -> None:
    """Let the next request have so much CPU time. The parent's clock comes first; this holds if it is gone."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime + seconds) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


def deny_system_calls() -> bool:
    """Deny opening files and sockets, starting programs and the like (seccomp), for good; False where this system has
    no such thing (not Linux, another processor, forbidden by a container)."""
    import ctypes
    import platform

    machine = platform.machine()
    if sys.platform != "linux" or machine not in _DENIED:
        return False
    numbers = sorted(_DENIED[machine].values())
    program = [(_LD_WORD, 0, 0, 4), (_JUMP_EQUAL, 0, len(numbers) + 3, _AUDIT_ARCH[machine]), (_LD_WORD, 0, 0, 0)]
    program += [(_JUMP_NOT_LESS, len(numbers) + 1, 0, _X32_CALLS)]
    program += [(_JUMP_EQUAL, len(numbers) - k, 0, number) for k, number in enumerate(numbers)]
    program += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _DENY)]
    code = b"".join(struct.pack("<HBBI", *line) for line in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("@HP", len(program), ctypes.addressof(buffer))
    libc: Any = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    return bool(libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.create_string_buffer(header, len(header)), 0, 0) == 0)
