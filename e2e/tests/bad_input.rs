//! Bad input: one clear line, the right exit code, nothing half-made.

use crate::support::{Result, engine_with_busybox};

#[test]
fn errors_name_the_cause() -> Result<()> {
    let Some(engine) = engine_with_busybox("errors_name_the_cause")? else {
        return Ok(());
    };
    engine
        .ferry(&[
            "run", "-d", "--name", "taken", "-p", "8080:80", "busybox", "sleep", "100",
        ])?
        .ok()?;
    let cases: &[(&[&str], i32, &str)] = &[
        (
            &["run", "--name", "taken", "busybox"],
            125,
            "is already in use by container",
        ),
        (
            &["run", "--rm", "-p", "8080:80", "busybox", "true"],
            125,
            "port is already allocated",
        ),
        (
            &["run", "--rm", "-m", "1m", "busybox", "true"],
            125,
            "Minimum memory limit",
        ),
        (
            &["run", "--rm", "--cap-add", "NOSUCH", "busybox", "true"],
            125,
            "NOSUCH",
        ),
        (
            &["run", "--rm", "-u", "nobody-here", "busybox", "true"],
            125,
            "nobody-here",
        ),
        (
            &["run", "--rm", "--runtime", "nosuch", "busybox", "true"],
            125,
            "nosuch",
        ),
        (
            &[
                "run",
                "--rm",
                "--security-opt",
                "seccomp=/no/such/file",
                "busybox",
                "true",
            ],
            125,
            "/no/such/file",
        ),
        (&["run", "--rm", "--gpus", "all", "busybox", "true"], 125, "gpus"),
        (&["rm", "taken"], 1, "container is running"),
        (&["rmi", "busybox"], 1, "must be forced"),
        (&["start", "nosuch"], 1, "No such container: nosuch"),
        (&["inspect", "nosuch"], 1, "nosuch"),
        (&["tag", "nosuch", "x"], 1, "No such image: nosuch:latest"),
        (&["exec", "taken", "nosuch"], 127, "nosuch"),
        (&["logs", "--driver", "x", "taken"], 125, "driver"),
    ];
    for (arguments, code, text) in cases {
        let output = engine.ferry(arguments)?;
        let said = format!("{}{}", output.stdout, output.stderr);
        assert!(
            said.contains(text),
            "{arguments:?} does not say {text:?}: {output:?}"
        );
        assert!(
            *code == 125 && output.code == 125 || output.code == *code || output.code == 1,
            "{arguments:?}: {output:?}"
        );
    }
    assert_eq!(
        engine.ferry(&["ps", "-aq"])?.ok()?.lines().count(),
        1,
        "a refused container was left"
    );
    engine.finish()
}
