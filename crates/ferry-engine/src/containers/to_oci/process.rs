//! The first process, and an exec's.

use super::security::{self, Options};
use super::{Inputs, limits};
use crate::Result;
use crate::containers::spec::{ContainerSpec, ExecSpec};
use crate::kernel::HostInfo;
use ferry_oci::runtime::{ConsoleSize, Process};

/// Where programs are looked for when nobody says.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The container's first process. User and groups are looked up by the shim, in the container's files.
pub(super) fn process(inputs: &Inputs<'_>, security: &Options) -> Result<Process> {
    let asked = inputs.spec;
    let isolation = &asked.isolation;
    let capabilities = security::capabilities(
        &isolation.cap_add,
        &isolation.cap_drop,
        isolation.privileged,
        inputs.host,
    )?;
    Ok(Process {
        terminal: asked.process.tty,
        console_size: console(asked.process.tty, asked.console_size),
        args: super::super::merge::command(&asked.process).concat(),
        env: environment(asked, inputs.hostname, inputs.link_env),
        cwd: cwd(&asked.process.working_dir),
        capabilities: Some(security::sets(&capabilities)),
        rlimits: limits::rlimits(&asked.resources.ulimits, inputs.default_ulimits)?,
        no_new_privileges: security.no_new_privileges,
        apparmor_profile: security::apparmor(security, isolation.privileged, inputs.host)?,
        oom_score_adj: Some(isolation.oom_score_adj),
        ..Process::default()
    })
}

/// An exec's process: everything that the spec of the exec leaves open is the container's.
pub(crate) fn exec_process(
    asked: &ContainerSpec,
    exec: &ExecSpec,
    (host, hostname): (&HostInfo, &str),
    default_ulimits: &[crate::containers::spec::Ulimit],
) -> Result<Process> {
    let isolation = &asked.isolation;
    let security = Options::parse(&isolation.security_opt)?;
    let privileged = exec.privileged || isolation.privileged;
    let capabilities = security::capabilities(&isolation.cap_add, &isolation.cap_drop, privileged, host)?;
    let mut env = environment(asked, hostname, &[]);
    if exec.tty && !asked.process.tty {
        env.push("TERM=xterm".into());
    }
    merge(&mut env, &exec.env);
    let dir = if exec.working_dir.is_empty() {
        &asked.process.working_dir
    } else {
        &exec.working_dir
    };
    Ok(Process {
        terminal: exec.tty,
        console_size: console(exec.tty, exec.console_size),
        args: exec.cmd.clone(),
        env,
        cwd: cwd(dir),
        capabilities: Some(security::sets(&capabilities)),
        rlimits: limits::rlimits(&asked.resources.ulimits, default_ulimits)?,
        no_new_privileges: security.no_new_privileges,
        apparmor_profile: security::apparmor(&security, privileged, host)?,
        oom_score_adj: Some(isolation.oom_score_adj),
        ..Process::default()
    })
}

fn console(tty: bool, [height, width]: [u16; 2]) -> Option<ConsoleSize> {
    (tty && height > 0 && width > 0).then_some(ConsoleSize { height, width })
}

fn cwd(dir: &str) -> String {
    if dir.is_empty() { "/".into() } else { dir.into() }
}

/// `PATH`, `HOSTNAME`, `TERM`, then links, then what was asked; a bare name takes a default away. `HOME` is the shim's: it knows the user.
fn environment(asked: &ContainerSpec, hostname: &str, links: &[String]) -> Vec<String> {
    let mut env = vec![PATH.to_owned(), format!("HOSTNAME={hostname}")];
    if asked.process.tty {
        env.push("TERM=xterm".into());
    }
    env.extend(links.iter().cloned());
    merge(&mut env, &asked.process.env);
    env
}

fn merge(env: &mut Vec<String>, over: &[String]) {
    for entry in over {
        let (name, set) = match entry.split_once('=') {
            Some((name, _)) => (name, true),
            None => (entry.as_str(), false),
        };
        let at = env
            .iter()
            .position(|have| have.split_once('=').is_some_and(|(n, _)| n == name));
        match (at, set) {
            (Some(i), true) => env[i].clone_from(entry),
            (Some(i), false) => {
                env.remove(i);
            }
            (None, true) => env.push(entry.clone()),
            (None, false) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::asked;
    use super::*;

    #[test]
    fn what_is_asked_comes_over_the_defaults() {
        let mut spec = asked();
        spec.process.tty = true;
        spec.process.env = ["PATH=/bin", "A=1", "A=2", "HOSTNAME", "NOT_THERE"]
            .map(String::from)
            .into();
        assert_eq!(
            environment(&spec, "h", &["L=1".into()]),
            ["PATH=/bin", "TERM=xterm", "L=1", "A=2"]
        );
    }

    #[test]
    fn an_exec_takes_what_it_does_not_say_from_the_container() {
        let mut spec = asked();
        spec.process.working_dir = "/srv".into();
        spec.process.env = vec!["A=1".into()];
        let exec = ExecSpec {
            cmd: vec!["id".into()],
            env: vec!["A=2".into()],
            tty: true,
            ..ExecSpec::default()
        };
        let made = exec_process(&spec, &exec, (&super::super::tests::host(), "h"), &[]).unwrap();
        assert_eq!(made.cwd, "/srv");
        assert!(made.env.contains(&"A=2".to_owned()) && made.env.contains(&"TERM=xterm".to_owned()));
        assert_eq!(made.capabilities.unwrap().effective.len(), 14);
        let exec = ExecSpec {
            privileged: true,
            ..exec
        };
        let made = exec_process(&spec, &exec, (&super::super::tests::host(), "h"), &[]).unwrap();
        assert!(
            made.capabilities
                .unwrap()
                .effective
                .contains(&"CAP_SYS_ADMIN".to_owned())
        );
    }
}
