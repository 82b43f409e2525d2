//! Docker's default profile (github.com/moby/profiles, seccomp/default.json): which calls a container may make.
//!
//! What no row names fails with EPERM. To renew, compare with the file named above; a test of this crate does so where it
//! can, by deciding every call both ways.

use ferry_oci::runtime::{Syscall, SyscallArg};

/// One rule and when it counts.
pub(super) struct Row {
    /// Separated by white space.
    pub names: &'static str,
    /// `None` allows, an errno denies with it.
    pub errno: Option<u32>,
    /// An argument's index, operation, value and second value.
    pub argument: Option<(u32, &'static str, u64, u64)>,
    /// The container needs all of these capabilities.
    pub caps: &'static [&'static str],
    /// The container has none of these.
    pub not_caps: &'static [&'static str],
    /// The machine is one of these, unless there are none.
    pub arches: &'static [&'static str],
    /// The machine is none of these.
    pub not_arches: &'static [&'static str],
    /// The oldest kernel.
    pub kernel: (u32, u32),
}

impl Row {
    /// As the specification has it.
    pub fn rule(&self) -> Syscall {
        let args = self.argument.map(|(index, op, value, value_two)| SyscallArg {
            index,
            value,
            value_two,
            op: format!("SCMP_CMP_{op}"),
        });
        Syscall {
            names: self.names.split_ascii_whitespace().map(str::to_owned).collect(),
            action: if self.errno.is_some() {
                "SCMP_ACT_ERRNO"
            } else {
                "SCMP_ACT_ALLOW"
            }
            .to_owned(),
            errno_ret: self.errno,
            args: args.into_iter().collect(),
        }
    }
}

const ALLOW: Row = Row {
    names: "",
    errno: None,
    argument: None,
    caps: &[],
    not_caps: &[],
    arches: &[],
    not_arches: &[],
    kernel: (0, 0),
};

/// The flags of clone(2) that make namespaces: NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET.
const NEW_NAMESPACES: u64 = 0x7e02_0000;

pub(super) static ROWS: &[Row] = &[
    Row {
        names: "
            accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod
            chown chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64
            clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64 close
            close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1
            epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd
            eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64
            fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat
            fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat
            fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue
            futex_time64 futex_wait futex_waitv futex_wake futimesat getcpu getcwd getdents
            getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32
            getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid
            getresgid32 getresuid getresuid32 getrlimit get_robust_list getrusage getsid
            getsockname getsockopt get_thread_area gettid gettimeofday getuid getuid32 getxattr
            getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel
            ioctl io_destroy io_getevents io_pgetevents io_pgetevents_time64 ioprio_get
            ioprio_set io_setup io_submit ipc kill landlock_add_rule landlock_create_ruleset
            landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listmount
            listxattr listxattrat llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64
            madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat
            mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify
            mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64
            mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap
            name_to_handle_at nanosleep newfstatat _newselect open openat openat2 pause
            pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll
            ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6
            pselect6_time64 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv
            recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr
            removexattrat rename renameat renameat2 restart_syscall riscv_hwprobe rmdir rseq
            rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend
            rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_getaffinity
            sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min
            sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64
            sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield
            seccomp select semctl semget semop semtimedop semtimedop_time64 send sendfile
            sendfile64 sendmmsg sendmsg sendto setfsgid setfsgid32 setfsuid setfsuid32 setgid
            setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid setregid32
            setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit
            set_robust_list setsid setsockopt set_thread_area set_tid_address setuid setuid32
            setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd
            signalfd4 sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs
            statfs64 statmount statx symlink symlinkat sync sync_file_range syncfs sysinfo tee
            tgkill time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64
            timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64
            timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask
            uname unlink unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork
            vmsplice wait4 waitid waitpid write writev
        ",
        ..ALLOW
    },
    Row {
        names: "process_vm_readv process_vm_writev ptrace",
        kernel: (4, 8),
        ..ALLOW
    },
    Row {
        names: "socket",
        argument: Some((0, "LT", 38, 0)),
        ..ALLOW
    },
    Row {
        names: "socket",
        argument: Some((0, "EQ", 39, 0)),
        ..ALLOW
    },
    Row {
        names: "socket",
        argument: Some((0, "GT", 40, 0)),
        ..ALLOW
    },
    Row {
        names: "personality",
        argument: Some((0, "EQ", 0, 0)),
        ..ALLOW
    },
    Row {
        names: "personality",
        argument: Some((0, "EQ", 8, 0)),
        ..ALLOW
    },
    Row {
        names: "personality",
        argument: Some((0, "EQ", 0x2_0000, 0)),
        ..ALLOW
    },
    Row {
        names: "personality",
        argument: Some((0, "EQ", 0x2_0008, 0)),
        ..ALLOW
    },
    Row {
        names: "personality",
        argument: Some((0, "EQ", 0xffff_ffff, 0)),
        ..ALLOW
    },
    Row {
        names: "
            arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls
        ",
        arches: &["arm", "arm64"],
        ..ALLOW
    },
    Row {
        names: "arch_prctl",
        arches: &["amd64", "x32"],
        ..ALLOW
    },
    Row {
        names: "modify_ldt",
        arches: &["amd64", "x32", "x86"],
        ..ALLOW
    },
    Row {
        names: "open_by_handle_at",
        caps: &["CAP_DAC_READ_SEARCH"],
        ..ALLOW
    },
    Row {
        names: "
            bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie
            lsm_get_self_attr lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount
            open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns
            syslog umount umount2 unshare
        ",
        caps: &["CAP_SYS_ADMIN"],
        ..ALLOW
    },
    Row {
        names: "clone",
        argument: Some((0, "MASKED_EQ", NEW_NAMESPACES, 0)),
        not_caps: &["CAP_SYS_ADMIN"],
        ..ALLOW
    },
    Row {
        names: "clone3",
        errno: Some(38),
        not_caps: &["CAP_SYS_ADMIN"],
        ..ALLOW
    },
    Row {
        names: "reboot",
        caps: &["CAP_SYS_BOOT"],
        ..ALLOW
    },
    Row {
        names: "chroot",
        caps: &["CAP_SYS_CHROOT"],
        ..ALLOW
    },
    Row {
        names: "delete_module init_module finit_module",
        caps: &["CAP_SYS_MODULE"],
        ..ALLOW
    },
    Row {
        names: "acct",
        caps: &["CAP_SYS_PACCT"],
        ..ALLOW
    },
    Row {
        names: "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace",
        caps: &["CAP_SYS_PTRACE"],
        ..ALLOW
    },
    Row {
        names: "iopl ioperm",
        caps: &["CAP_SYS_RAWIO"],
        ..ALLOW
    },
    Row {
        names: "settimeofday stime clock_settime clock_settime64",
        caps: &["CAP_SYS_TIME"],
        ..ALLOW
    },
    Row {
        names: "vhangup",
        caps: &["CAP_SYS_TTY_CONFIG"],
        ..ALLOW
    },
    Row {
        names: "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
        caps: &["CAP_SYS_NICE"],
        ..ALLOW
    },
    Row {
        names: "syslog",
        caps: &["CAP_SYSLOG"],
        ..ALLOW
    },
    Row {
        names: "bpf",
        caps: &["CAP_BPF"],
        ..ALLOW
    },
    Row {
        names: "perf_event_open",
        caps: &["CAP_PERFMON"],
        ..ALLOW
    },
];
