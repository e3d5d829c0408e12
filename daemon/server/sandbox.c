/*
 * Landlock and seccomp. A platform file.
 * Owner: daemon_run. Lifetime: the process's.
 */
#include "server/sandbox.h"

#include <stdio.h>
#include <stdlib.h>

#ifdef __linux__

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* linux/landlock.h, of which older systems have older ones: the numbers are the kernel's for good. */
#define CREATE_RULESET 444
#define ADD_RULE 445
#define RESTRICT_SELF 446
#define RULE_PATH_BENEATH 1
#define ABI_VERSION_FLAG 1u

enum { /* bits of access to files */
       FS_EXECUTE = 1u << 0,
       FS_WRITE_FILE = 1u << 1,
       FS_READ_FILE = 1u << 2,
       FS_READ_DIR = 1u << 3,
       FS_V1 = (1u << 13) - 1, /* all that the first version knows */
       FS_REFER = 1u << 13,
       FS_TRUNCATE = 1u << 14,
};
#define FS_OF_FILES (FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE)

typedef struct ruleset_attribute {
    uint64_t fs, net, scoped;
} ruleset_attribute;

typedef struct __attribute__((packed)) beneath_attribute {
    uint64_t allowed;
    int32_t parent;
} beneath_attribute;

struct sandbox {
    int ruleset; /* −1: the kernel has no Landlock */
    uint64_t handled;
};

mlxr_status sandbox_open(sandbox **out, mlxr_error *error)
{
    sandbox *s = calloc(1, sizeof *s);
    if (!s) {
        *error = (mlxr_error){.status = MLXR_NOMEM, .text = "no memory for a sandbox"};
        return MLXR_NOMEM;
    }
    long version = syscall(CREATE_RULESET, NULL, 0, ABI_VERSION_FLAG);
    s->handled = FS_V1 | (version >= 2 ? FS_REFER : 0u) | (version >= 3 ? FS_TRUNCATE : 0u);
    ruleset_attribute attribute = {.fs = s->handled};
    s->ruleset = version < 1 ? -1 : (int)syscall(CREATE_RULESET, &attribute, sizeof attribute.fs, 0);
    if (s->ruleset >= 0) {
        fcntl(s->ruleset, F_SETFD, FD_CLOEXEC);
    }
    *out = s;
    return MLXR_OK;
}

void sandbox_close(sandbox **s)
{
    if (*s) {
        if ((*s)->ruleset >= 0) {
            close((*s)->ruleset);
        }
        free(*s);
        *s = NULL;
    }
}

bool sandbox_keeps_files(const sandbox *s)
{
    return s->ruleset >= 0;
}

static void allow(sandbox *s, const char *path, uint64_t allowed)
{
    struct stat info;
    int fd = s->ruleset >= 0 ? open(path, O_PATH | O_CLOEXEC) : -1;
    if (fd < 0) {
        return;
    }
    if (fstat(fd, &info) == 0 && !S_ISDIR(info.st_mode)) {
        allowed &= FS_OF_FILES;
    }
    beneath_attribute attribute = {.allowed = allowed, .parent = fd};
    syscall(ADD_RULE, s->ruleset, RULE_PATH_BENEATH, &attribute, 0);
    close(fd);
}

void sandbox_allow(sandbox *s, const char *path, bool write)
{
    allow(s, path, write ? s->handled & ~(uint64_t)FS_EXECUTE : FS_READ_FILE | FS_READ_DIR);
}

void sandbox_allow_names(sandbox *s, const char *path)
{
    allow(s, path, FS_READ_DIR);
}

/* ---- system calls ------------------------------------------------------------------------------------------------ */

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#else
#define ARCHITECTURE 0
#endif

/* What no part of a daemon has a use for: other programs, other processes, the kernel itself. */
static const int denied[] = {
    SYS_execve,
    SYS_execveat,
    SYS_ptrace,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_mount,
    SYS_umount2,
    SYS_pivot_root,
    SYS_chroot,
    SYS_unshare,
    SYS_setns,
    SYS_bpf,
    SYS_userfaultfd,
    SYS_perf_event_open,
    SYS_kexec_load,
    SYS_init_module,
    SYS_finit_module,
    SYS_delete_module,
    SYS_keyctl,
    SYS_add_key,
    SYS_request_key,
    SYS_swapon,
    SYS_swapoff,
    SYS_reboot,
    SYS_sethostname,
    SYS_setdomainname,
    SYS_acct,
    SYS_settimeofday,
    SYS_clock_settime,
    SYS_open_by_handle_at,
    SYS_quotactl,
    SYS_kcmp,
    SYS_personality,
    425 /* io_uring_setup */,
    428 /* open_tree */,
    429 /* move_mount */,
    430 /* fsopen */,
    438 /* pidfd_getfd */,
};

#define N_DENIED (sizeof denied / sizeof *denied)

static bool filter_calls(void)
{
    struct sock_filter code[N_DENIED + 8];
    size_t n = 0;
    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
    code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM); /* another one's numbers */
    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, N_DENIED + 1, 0); /* x32 */
    for (size_t i = 0; i < N_DENIED; i++) { /* a match jumps behind the last comparison and the permission */
        code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)denied[i],
                                                 (uint8_t)(N_DENIED - i), 0);
    }
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
    struct sock_fprog program = {.len = (unsigned short)n, .filter = code};
    return ARCHITECTURE && syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0;
}

mlxr_status sandbox_enter(sandbox *s, const char **what, mlxr_error *error)
{
    bool files = false, calls = false;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0) {
        files = s->ruleset >= 0 && syscall(RESTRICT_SELF, s->ruleset, 0) == 0;
        calls = filter_calls();
    }
    *what = files && calls ? "Landlock and seccomp" : files ? "Landlock" : calls ? "seccomp" : "none";
    if (!files && !calls) {
        *error = (mlxr_error){.status = MLXR_UNSUPPORTED, .text = "this kernel offers neither Landlock nor seccomp"};
        return MLXR_UNSUPPORTED;
    }
    return MLXR_OK;
}

#else

struct sandbox {
    int nothing;
};

mlxr_status sandbox_open(sandbox **out, mlxr_error *error)
{
    *out = calloc(1, sizeof **out);
    if (!*out) {
        *error = (mlxr_error){.status = MLXR_NOMEM, .text = "no memory for a sandbox"};
        return MLXR_NOMEM;
    }
    return MLXR_OK;
}

void sandbox_close(sandbox **s)
{
    free(*s);
    *s = NULL;
}

bool sandbox_keeps_files(const sandbox *s)
{
    (void)s;
    return false;
}

void sandbox_allow(sandbox *s, const char *path, bool write)
{
    (void)s;
    (void)path;
    (void)write;
}

void sandbox_allow_names(sandbox *s, const char *path)
{
    (void)s;
    (void)path;
}

mlxr_status sandbox_enter(sandbox *s, const char **what, mlxr_error *error)
{
    (void)s;
    *what = "none";
    *error = (mlxr_error){.status = MLXR_UNSUPPORTED, .text = "this system offers no sandbox to a process"};
    return MLXR_UNSUPPORTED;
}

#endif
