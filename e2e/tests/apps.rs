//! Real programs from Debian's packages, as people run them.

use crate::support::{Result, engine_with, pulled, wait_for};
use anyhow::{Context, bail};
use e2e::{Engine, run};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// One HTTP/1.0 request from the calling thread's network.
fn fetch(address: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address.parse()?, Duration::from_secs(5))
        .with_context(|| format!("connecting to {address}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET / HTTP/1.0\r\nHost: test\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn nginx_serves_a_page_to_another_host() -> Result<()> {
    let Some((engine, registry)) = engine_with("nginx_serves_a_page_to_another_host", &["nginx"])? else {
        return Ok(());
    };
    let image = pulled(&engine, &registry, "nginx")?;
    engine
        .ferry(&[
            "run",
            "-d",
            "--name",
            "web",
            "-p",
            "8080:80",
            "-p",
            "127.0.0.1:8081:80",
            &image,
        ])?
        .ok()?;
    // Another host: a network namespace joined to the engine's by a cable.
    let lan = engine.world.neighbour()?;
    let neighbour = format!(
        "/proc/{}/fd/{}",
        std::process::id(),
        std::os::fd::AsRawFd::as_raw_fd(lan.network())
    );
    engine.world.enter(|| {
        run(
            "ip",
            &["link", "add", "lan0", "type", "veth", "peer", "name", "lan1"],
        )?
        .ok()?;
        run("ip", &["addr", "add", "198.51.100.1/24", "dev", "lan0"])?.ok()?;
        run("ip", &["link", "set", "lan0", "up"])?.ok()?;
        run("ip", &["link", "set", "lan1", "netns", &neighbour])?.ok()
    })?;
    lan.enter(|| {
        run("ip", &["addr", "add", "198.51.100.2/24", "dev", "lan1"])?.ok()?;
        run("ip", &["link", "set", "lan1", "up"])?.ok()
    })?;
    wait_for("nginx answers", || {
        engine
            .world
            .enter(|| fetch("127.0.0.1:8081"))
            .is_ok_and(|a| a.contains("200 OK"))
    })?;
    let from_lan = lan.enter(|| fetch("198.51.100.1:8080"))?;
    assert!(
        from_lan.contains("200 OK") && from_lan.to_lowercase().contains("nginx"),
        "{from_lan}"
    );
    let from_host = engine.world.enter(|| fetch("127.0.0.1:8080"))?;
    assert!(from_host.contains("200 OK"), "{from_host}");
    let over_v6 = engine.world.enter(|| fetch("[::1]:8080"))?;
    assert!(over_v6.contains("200 OK"), "{over_v6}");
    assert!(
        lan.enter(|| fetch("198.51.100.1:8081")).is_err(),
        "a port published on loopback is reachable from the LAN"
    );
    assert!(engine.ferry(&["logs", "web"])?.ok().is_ok());
    engine.world.enter(|| run("ip", &["link", "del", "lan0"])?.ok())?;
    engine.finish()
}

fn redis(engine: &Engine, arguments: &[&str]) -> Result<String> {
    engine
        .ferry(&[&["exec", "db", "redis-cli"], arguments].concat())?
        .ok()
}

#[test]
fn redis_keeps_keys_within_its_memory() -> Result<()> {
    let Some((engine, registry)) = engine_with("redis_keeps_keys_within_its_memory", &["redis"])? else {
        return Ok(());
    };
    let image = pulled(&engine, &registry, "redis")?;
    engine
        .ferry(&[
            "run",
            "-d",
            "--name",
            "db",
            "-m",
            "64m",
            "--memory-swap",
            "64m",
            &image,
        ])?
        .ok()?;
    wait_for("redis answers", || {
        redis(&engine, &["ping"]).is_ok_and(|a| a.trim() == "PONG")
    })?;
    redis(&engine, &["set", "key", "value"])?;
    assert_eq!(redis(&engine, &["get", "key"])?.trim(), "value");
    let limit = engine
        .ferry(&["inspect", "-f", "{{.HostConfig.Memory}}", "db"])?
        .ok()?;
    assert_eq!(limit.trim(), (64 << 20).to_string());
    // More than the limit: the kernel ends it, and the engine knows why.
    let filled = engine.ferry(&[
        "exec",
        "db",
        "redis-cli",
        "eval",
        "for i=1,200 do redis.call('set', 'k'..i, string.rep('x', 1048576)) end",
        "0",
    ])?;
    wait_for("redis is ended for memory", || {
        engine
            .ferry(&["inspect", "-f", "{{.State.OOMKilled}} {{.State.ExitCode}}", "db"])
            .is_ok_and(|o| o.stdout.trim() == "true 137")
    })
    .with_context(|| format!("{filled:?}"))?;
    engine.finish()
}

const SETUP: &str = "pg_createcluster 15 main >/dev/null 2>&1 || true; \
    exec su postgres -c '/usr/lib/postgresql/15/bin/postgres -D /var/lib/postgresql/15/main -c config_file=/etc/postgresql/15/main/postgresql.conf -c listen_addresses=*'";

fn psql(engine: &Engine, sql: &str) -> Result<String> {
    engine
        .ferry(&[
            "exec",
            "pg",
            "su",
            "postgres",
            "-c",
            &format!("psql -qtAc \"{sql}\""),
        ])?
        .ok()
}

#[test]
fn postgres_keeps_every_committed_row_when_the_engine_is_killed() -> Result<()> {
    let Some((mut engine, registry)) = engine_with(
        "postgres_keeps_every_committed_row_when_the_engine_is_killed",
        &["postgres"],
    )?
    else {
        return Ok(());
    };
    let image = pulled(&engine, &registry, "postgres")?;
    engine
        .ferry(&[
            "run",
            "-d",
            "--name",
            "pg",
            "-v",
            "rows:/var/lib/postgresql",
            &image,
            "sh",
            "-c",
            SETUP,
        ])?
        .ok()?;
    wait_for("postgres answers", || {
        psql(&engine, "select 1").is_ok_and(|a| a.trim() == "1")
    })?;
    psql(&engine, "create table t(i int primary key)")?;
    // The writer commits one row at a time and says which; it runs beside the engine's death, inside the container.
    let writer = "for i in $(seq 1 400); do psql -qtAc \"insert into t values ($i)\" && echo $i >>/tmp/committed; done";
    engine
        .ferry(&["exec", "-d", "pg", "su", "postgres", "-c", writer])?
        .ok()?;
    wait_for("rows are written", || {
        psql(&engine, "select count(*) from t").is_ok_and(|n| n.trim().parse::<u32>().is_ok_and(|n| n > 10))
    })?;
    engine.kill()?;
    std::thread::sleep(Duration::from_millis(500));
    engine.launch()?;
    wait_for("the writer is done", || {
        psql(&engine, "select max(i) from t").is_ok_and(|n| n.trim() == "400")
    })?;
    let said = engine
        .ferry(&["exec", "pg", "sh", "-c", "sort -n /tmp/committed | uniq | wc -l"])?
        .ok()?;
    let kept = psql(&engine, "select count(*) from t")?;
    assert_eq!(
        said.trim(),
        kept.trim(),
        "rows that were committed and rows that are there"
    );
    // A new container on the same volume finds them too.
    engine.ferry(&["rm", "-f", "pg"])?.ok()?;
    engine
        .ferry(&[
            "run",
            "-d",
            "--name",
            "pg",
            "-v",
            "rows:/var/lib/postgresql",
            &image,
            "sh",
            "-c",
            &format!("pg_createcluster 15 other >/dev/null; {SETUP}"),
        ])?
        .ok()?;
    wait_for("postgres answers again", || {
        psql(&engine, "select count(*) from t").is_ok_and(|n| n.trim() == "400")
    })?;
    engine.ferry(&["rm", "-f", "pg"])?.ok()?;
    engine.ferry(&["volume", "rm", "rows"])?.ok()?;
    engine.finish()
}

#[test]
fn two_hundred_containers_come_and_go() -> Result<()> {
    let Some((engine, registry)) = engine_with("two_hundred_containers_come_and_go", &["busybox"])? else {
        return Ok(());
    };
    let image = pulled(&engine, &registry, "busybox")?;
    for n in 0..200 {
        engine
            .ferry(&["run", "-d", "--name", &format!("c{n}"), &image, "sleep", "1000"])?
            .ok()
            .with_context(|| format!("container {n}"))?;
    }
    let running = engine.ferry(&["ps", "-q"])?.ok()?.lines().count();
    if running != 200 {
        bail!("{running} of 200 run");
    }
    let names: Vec<String> = (0..200).map(|n| format!("c{n}")).collect();
    let arguments: Vec<&str> = ["rm", "-f"]
        .into_iter()
        .chain(names.iter().map(String::as_str))
        .collect();
    engine.ferry(&arguments)?.ok()?;
    assert_eq!(engine.ferry(&["ps", "-aq"])?.ok()?, "");
    engine.finish()
}
