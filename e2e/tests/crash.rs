//! SIGKILL at moments nobody chose.

use crate::support::{Result, engine_with_busybox, wait_for};
use anyhow::bail;
use std::time::Duration;

const CONTAINERS: usize = 20;
const KILLS: u32 = 25;
const LINES: usize = 400;

#[test]
fn no_line_and_no_exit_code_is_lost_when_the_engine_is_killed() -> Result<()> {
    let Some(mut engine) = engine_with_busybox("no_line_and_no_exit_code_is_lost_when_the_engine_is_killed")?
    else {
        return Ok(());
    };
    for n in 0..CONTAINERS {
        // Some end while an engine is dead, each with a code of its own.
        let script = format!(
            "i=1; while [ $i -le {LINES} ]; do echo line $i; i=$((i+1)); [ $((i % 20)) -eq 0 ] && sleep 0.{}; done; exit {n}",
            1 + n % 9
        );
        engine
            .ferry(&[
                "run",
                "-d",
                "-i",
                "--name",
                &format!("crash{n}"),
                "busybox",
                "sh",
                "-c",
                &script,
            ])?
            .ok()?;
    }
    let mut pause = 7u64;
    for _ in 0..KILLS {
        // A fixed sequence that looks random: tests repeat.
        pause = pause * 6_364_136 % 1_000_003;
        std::thread::sleep(Duration::from_millis(pause % 300));
        engine.kill()?;
        std::thread::sleep(Duration::from_millis(pause % 40));
        engine.launch()?;
    }
    for n in 0..CONTAINERS {
        let name = format!("crash{n}");
        wait_for("it ends", || {
            engine
                .ferry(&["inspect", "-f", "{{.State.Status}}", &name])
                .is_ok_and(|o| o.stdout.trim() == "exited")
        })?;
        let code = engine
            .ferry(&["inspect", "-f", "{{.State.ExitCode}}", &name])?
            .ok()?;
        assert_eq!(code.trim(), n.to_string(), "{name}");
        let logs = engine.ferry(&["logs", &name])?.ok()?;
        let expected: Vec<String> = (1..=LINES).map(|i| format!("line {i}")).collect();
        let got: Vec<&str> = logs.lines().collect();
        if got != expected {
            bail!(
                "{name}: {} lines of {LINES}, the first that differs: {:?}",
                got.len(),
                got.iter().zip(&expected).find(|(a, b)| a != b)
            );
        }
    }
    engine.finish()
}
