// SPDX-License-Identifier: MPL-2.0

//! What a worker gives up before it runs anybody's code.

#![expect(unsafe_code, reason = "closes descriptors by their numbers")]

use std::collections::BTreeMap;

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// Closes all descriptors but the first three: the application's are none of a device's business, and a
/// camera or a display that a hung worker held could not be opened again. The standard library has opened
/// none yet.
pub fn close_strays() {
    let Ok(folder) = std::fs::read_dir("/proc/self/fd") else {
        return;
    };
    let names = folder.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let numbers: Vec<i32> = names.filter(|number| *number > 2).collect();
    for number in numbers {
        // SAFETY: this is the first thing that `main` does: nothing in this process owns a descriptor
        // above 2. The folder that listed them is closed; closing its number again is an error that
        // nobody sees.
        unsafe { libc::close(number) };
    }
}

/// Has the system kill this process when the application ends; the parent to compare with later.
pub fn die_with_parent() -> Option<Pid> {
    let parent = getppid();
    // Where there is no such thing, the socket tells as well.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    parent
}

/// Ends this process without asking anybody.
pub fn end_at_once() -> ! {
    let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::KILL);
    std::process::abort()
}

/// Gives up what no device needs, and offers itself to a system that is short of memory. What a kernel
/// does not know is kept, and said.
pub fn give_up_privileges() {
    // Its device can be begun anew, the application cannot.
    let _ = std::fs::write("/proc/self/oom_score_adj", "500");
    if let Err(reason) = refuse_calls() {
        eprintln!("the network is open to this process: {reason}");
    }
}

/// Refuses sockets but those of this machine, and what looks into or changes other processes and the
/// system.
fn refuse_calls() -> Result<(), String> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| error.to_string())?;
    let filter = SeccompFilter::new(
        rules().map_err(|error| error.to_string())?,
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EACCES as u32),
        arch,
    );
    let program = filter.and_then(BpfProgram::try_from);
    let program = program.map_err(|error| error.to_string())?;
    // Of this thread and those that it begins; there is no other yet.
    seccompiler::apply_filter(&program).map_err(|error| error.to_string())
}

fn rules() -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::BackendError> {
    /// A library may log, and see which devices there are.
    const FAMILIES: [i32; 2] = [libc::AF_UNIX, libc::AF_NETLINK];
    const CALLS: [i64; 24] = [
        // It opens sockets too.
        libc::SYS_io_uring_setup,
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_pidfd_getfd,
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_userfaultfd,
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_pivot_root,
        libc::SYS_chroot,
        libc::SYS_setns,
        libc::SYS_unshare,
        libc::SYS_open_by_handle_at,
        libc::SYS_init_module,
        libc::SYS_finit_module,
        libc::SYS_delete_module,
        libc::SYS_kexec_load,
        libc::SYS_reboot,
        libc::SYS_swapon,
        libc::SYS_swapoff,
        libc::SYS_add_key,
        libc::SYS_keyctl,
    ];
    let others = FAMILIES.map(|family| {
        let family = u64::from(family.unsigned_abs());
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, family)
    });
    let others = others.into_iter().collect::<Result<Vec<_>, _>>()?;
    let mut rules: BTreeMap<_, _> = CALLS.map(|call| (call, Vec::new())).into();
    rules.insert(libc::SYS_socket, vec![SeccompRule::new(others)?]);
    Ok(rules)
}
