// The system calls that are refused to sandboxes, whatever their arguments
// (sandbox_policy.h), each with why.

#ifndef ENVIRONMENTS_DENIED_CALLS_H_
#define ENVIRONMENTS_DENIED_CALLS_H_

namespace temper {

inline constexpr const char* kDeniedCalls[] = {
    // Escapes by namespaces and mounts.
    "unshare", "setns", "mount", "umount2", "umount", "pivot_root", "chroot",
    "open_tree", "move_mount", "fsopen", "fsconfig", "fsmount", "fspick",
    "mount_setattr", "name_to_handle_at", "open_by_handle_at",
    // Other processes' memory and handles.
    "ptrace", "process_vm_readv", "process_vm_writev", "kcmp", "pidfd_getfd",
    "process_madvise",
    // Kernel interfaces with a history.
    "bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter",
    "io_uring_register", "fanotify_init", "personality", "modify_ldt",
    "vmsplice", "uselib", "lookup_dcookie", "remap_file_pages",
    // State shared across sandboxes; inotify tells when another one opens a
    // file of the system's.
    "add_key", "keyctl", "request_key", "flock", "mq_open", "shmget", "semget",
    "msgget", "memfd_secret", "inotify_init", "inotify_init1",
    "inotify_add_watch",
    // Memory that belongs to no process: unmapped, closed and sent in a message
    // it is in no rlimit.
    "memfd_create",
    // The machine.
    "reboot", "kexec_load", "kexec_file_load", "init_module", "finit_module",
    "delete_module", "create_module", "syslog", "acct", "swapon", "swapoff",
    "quotactl", "quotactl_fd", "nfsservctl", "iopl", "ioperm", "vhangup",
    "sethostname", "setdomainname", "settimeofday", "clock_settime",
    "clock_adjtime", "adjtimex", "stime", "move_pages", "migrate_pages",
    "mbind", "set_mempolicy", "mlock", "mlock2", "mlockall",
    // Would send SIGCONT to a frozen sandbox (sandbox_freeze.h).
    "timer_create"};

}  // namespace temper

#endif  // ENVIRONMENTS_DENIED_CALLS_H_
