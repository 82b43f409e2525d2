//! How a container's state changes: one pure function.
//!
//! [`step`] takes where a container stands and what happened and answers where it stands now and what has to be done. Nothing
//! else decides. The caller holds the state, carries out the effects in their order and reports back as further events.
//!
//! `held` says that the last run still has its resources (upper directory, address, ports, volumes): from the moment a start is
//! decided until [`Event::Released`]. A new start waits for that.

use super::spec::RestartPolicy;
use super::view::Status;
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime};

/// The first delay before a policy's restart.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
/// The longest delay.
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// A run this long resets the delay.
const BACKOFF_RESET: Duration = Duration::from_secs(10);
/// The exit code that is told where nobody knows the real one.
pub const UNKNOWN_EXIT: i32 = 255;

/// Where a container stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Made, never started, or its start failed.
    #[default]
    Created,
    /// Being started: its first process is not there yet or stands at the gate.
    Starting,
    /// Its program runs.
    Running,
    /// Frozen.
    Paused,
    /// Ended; its policy starts it again when the back-off is over.
    Restarting,
    /// Ended.
    Exited,
    /// Being removed.
    Removing,
    /// Could not be removed whole.
    Dead,
    /// Gone.
    Removed,
}

/// All that [`step`] needs to know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// Where it stands.
    pub phase: Phase,
    /// The first process; 0 when none.
    pub pid: i32,
    /// Of the last end.
    pub exit_code: i32,
    /// Why the last start failed, or what is known of a lost shim.
    pub error: String,
    /// Whether the kernel killed a process of the last run for memory.
    pub oom_killed: bool,
    /// When it last started.
    pub started_at: Option<SystemTime>,
    /// When it last ended.
    pub finished_at: Option<SystemTime>,
    /// Whether it was stopped or killed by hand since it was last started by hand.
    pub manually_stopped: bool,
    /// How often its policy started it again.
    pub restart_count: u32,
    /// What happens at its end.
    pub policy: RestartPolicy,
    /// Removed at its end.
    pub auto_remove: bool,
    /// Whether the last run's resources are still in use; not stored: at the engine's start the kernel tells.
    #[serde(skip)]
    pub held: bool,
    /// A stop was asked for during this run: its end is final.
    #[serde(skip)]
    pub ending: bool,
    /// The present delay before a restart.
    #[serde(skip)]
    pub backoff: Duration,
    /// A restart by hand is under way: its end neither removes nor restarts by policy.
    #[serde(skip)]
    pub restarting_by_hand: bool,
}

/// What happened or is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Somebody asks for a start.
    Start,
    /// The back-off is over.
    BackoffOver,
    /// The program runs.
    Started {
        /// The first process.
        pid: i32,
        /// Since when.
        at: SystemTime,
    },
    /// The program could not be started.
    StartFailed {
        /// 125 to 128.
        code: i32,
        /// The sentence.
        message: String,
    },
    /// It ended.
    Exited {
        /// 0 to 255.
        code: i32,
        /// When.
        at: SystemTime,
        /// Whether the kernel killed a process of it for memory.
        oom: bool,
        /// What is known of a lost shim, else empty.
        error: String,
    },
    /// The kernel killed a process of it for memory.
    Oom,
    /// Everything that the run held is free.
    Released,
    /// A stop is asked for (by signal and time-out).
    Stop,
    /// A restart by hand begins with this stop.
    StopToRestart,
    /// The restart by hand is over, well or not.
    RestartDone,
    /// A signal is asked for; `ends` when it is SIGKILL or the container's own stop signal.
    Kill {
        /// Whether the container is meant to end by it.
        ends: bool,
    },
    /// Frozen.
    Paused,
    /// Thawed.
    Unpaused,
    /// Its removal is asked for.
    Remove,
    /// Removed.
    Removed,
    /// Could not be removed whole.
    RemoveFailed,
    /// A new policy.
    Policy(RestartPolicy),
    /// The engine is new and finds it running.
    Adopt {
        /// The first process.
        pid: i32,
        /// Since when.
        at: SystemTime,
        /// Whether it is frozen.
        paused: bool,
    },
}

/// What has to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Make and start it; answers [`Event::Started`] or [`Event::StartFailed`].
    Launch,
    /// Tell of the event `start`.
    PublishStart,
    /// Tell of the event `die` and those who wait for the end.
    PublishDie,
    /// Tell of the event `stop`.
    PublishStop,
    /// Tell of the event `oom`.
    PublishOom,
    /// Free what the run held; answers [`Event::Released`].
    Release,
    /// Wait, then say [`Event::BackoffOver`].
    Backoff(Duration),
    /// End a back-off.
    CancelBackoff,
    /// Send the signal.
    Signal,
    /// Thaw after the signal.
    Thaw,
    /// Begin health checks.
    StartHealth,
    /// End health checks.
    StopHealth,
    /// Remove it, its anonymous volumes too.
    AutoRemove,
    /// Write the record; nobody waits for it.
    Save,
}

/// Why something cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// It is so already.
    Unchanged,
    /// It does not run.
    NotRunning,
    /// It is frozen.
    Paused,
    /// It is not frozen.
    NotPaused,
    /// It waits for its policy's restart.
    Restarting,
    /// It runs.
    Running,
    /// It is being started: ask again when that is over.
    Starting,
    /// The last run is not cleaned up yet: ask again when it is.
    Held,
    /// It is being removed.
    Removing,
    /// It is dead.
    Dead,
    /// The event does not belong here; it comes too late and is dropped.
    Stale,
}

impl State {
    /// As views show it.
    pub fn status(&self) -> Status {
        match self.phase {
            Phase::Created => Status::Created,
            Phase::Starting if self.restart_count > 0 && !self.ending => Status::Restarting,
            Phase::Starting => {
                if self.finished_at.is_some() {
                    Status::Exited
                } else {
                    Status::Created
                }
            }
            Phase::Running => Status::Running,
            Phase::Paused => Status::Paused,
            Phase::Restarting => Status::Restarting,
            Phase::Exited => Status::Exited,
            Phase::Removing | Phase::Removed => Status::Removing,
            Phase::Dead => Status::Dead,
        }
    }

    /// Whether a process of it is there.
    pub fn alive(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Paused)
    }

    /// Whether the policy starts it again after this end.
    fn wants_restart(&self, code: i32) -> bool {
        if self.ending || self.restarting_by_hand {
            return false;
        }
        match self.policy {
            RestartPolicy::No => false,
            RestartPolicy::Always => true,
            RestartPolicy::UnlessStopped => !self.manually_stopped,
            RestartPolicy::OnFailure { max } => code != 0 && (max == 0 || self.restart_count < max),
        }
    }

    fn next_backoff(&self, ended: SystemTime) -> Duration {
        let ran = self
            .started_at
            .and_then(|s| ended.duration_since(s).ok())
            .unwrap_or_default();
        match self.backoff {
            Duration::ZERO => BACKOFF_FIRST,
            _ if ran >= BACKOFF_RESET => BACKOFF_FIRST,
            backoff => (backoff * 2).min(BACKOFF_MAX),
        }
    }
}

/// What follows from `event` in `state`.
///
/// # Errors
/// A [`Conflict`] when it cannot be; nothing has changed then.
pub fn step(state: State, event: Event) -> Result<(State, Vec<Effect>), Conflict> {
    match event {
        Event::Start => start(state),
        Event::BackoffOver => backoff_over(state),
        Event::Started { pid, at } => started(state, pid, at),
        Event::StartFailed { code, message } => start_failed(state, code, message),
        Event::Exited { code, at, oom, error } => exited(state, code, at, (oom, error)),
        Event::Oom => match state.phase {
            Phase::Running | Phase::Paused | Phase::Starting => Ok((
                State {
                    oom_killed: true,
                    ..state
                },
                vec![Effect::PublishOom],
            )),
            _ => Err(Conflict::Stale),
        },
        // What runs or is being made holds what it has: nothing of it was asked to be freed.
        Event::Released if state.alive() || state.phase == Phase::Starting => Err(Conflict::Stale),
        Event::Released => Ok((State { held: false, ..state }, Vec::new())),
        Event::Stop => stop(state, false),
        Event::StopToRestart => stop(state, true),
        Event::RestartDone => Ok((
            State {
                restarting_by_hand: false,
                ..state
            },
            Vec::new(),
        )),
        Event::Kill { ends } => kill(state, ends),
        Event::Paused | Event::Unpaused => freeze(state, event == Event::Paused),
        Event::Remove | Event::Removed | Event::RemoveFailed => remove(state, &event),
        Event::Policy(policy) => set_policy(state, policy),
        Event::Adopt { pid, at, paused } => Ok(adopt(state, pid, at, paused)),
    }
}

fn start(state: State) -> Result<(State, Vec<Effect>), Conflict> {
    match state.phase {
        Phase::Running | Phase::Restarting => Err(Conflict::Unchanged),
        Phase::Starting => Err(Conflict::Starting),
        Phase::Paused => Err(Conflict::Paused),
        Phase::Removing | Phase::Removed => Err(Conflict::Removing),
        Phase::Dead => Err(Conflict::Dead),
        Phase::Created | Phase::Exited if state.held => Err(Conflict::Held),
        Phase::Created | Phase::Exited => {
            let next = State {
                manually_stopped: false,
                restart_count: 0,
                backoff: Duration::ZERO,
                ..launching(state)
            };
            Ok((next, vec![Effect::Launch]))
        }
    }
}

fn launching(state: State) -> State {
    State {
        phase: Phase::Starting,
        held: true,
        ending: false,
        oom_killed: false,
        error: String::new(),
        pid: 0,
        ..state
    }
}

fn backoff_over(state: State) -> Result<(State, Vec<Effect>), Conflict> {
    match state.phase {
        Phase::Restarting if state.held => Err(Conflict::Held),
        Phase::Restarting => Ok((launching(state), vec![Effect::Launch])),
        _ => Err(Conflict::Stale),
    }
}

fn started(state: State, pid: i32, at: SystemTime) -> Result<(State, Vec<Effect>), Conflict> {
    if state.phase != Phase::Starting {
        return Err(Conflict::Stale);
    }
    let next = State {
        phase: Phase::Running,
        pid,
        exit_code: 0,
        started_at: Some(at),
        ..state
    };
    Ok((
        next,
        vec![Effect::PublishStart, Effect::StartHealth, Effect::Save],
    ))
}

fn start_failed(state: State, code: i32, message: String) -> Result<(State, Vec<Effect>), Conflict> {
    if state.phase != Phase::Starting {
        return Err(Conflict::Stale);
    }
    let phase = if state.started_at.is_some() {
        Phase::Exited
    } else {
        Phase::Created
    };
    let auto_remove = state.auto_remove && !state.restarting_by_hand;
    let next = State {
        phase,
        pid: 0,
        exit_code: code,
        error: message,
        ..state
    };
    let mut effects = vec![Effect::Release, Effect::Save];
    if auto_remove {
        effects.push(Effect::AutoRemove);
    }
    Ok((next, effects))
}

fn exited(
    state: State,
    code: i32,
    at: SystemTime,
    (oom, error): (bool, String),
) -> Result<(State, Vec<Effect>), Conflict> {
    if !matches!(state.phase, Phase::Running | Phase::Paused | Phase::Starting) {
        return Err(Conflict::Stale);
    }
    let restart = state.wants_restart(code);
    let backoff = if restart {
        state.next_backoff(at)
    } else {
        Duration::ZERO
    };
    let auto_remove = state.auto_remove && !restart && !state.restarting_by_hand;
    let mut effects = Vec::new();
    if oom && !state.oom_killed {
        effects.push(Effect::PublishOom);
    }
    effects.extend([
        Effect::StopHealth,
        Effect::PublishDie,
        Effect::Release,
        Effect::Save,
    ]);
    if restart {
        effects.push(Effect::Backoff(backoff));
    }
    if auto_remove {
        effects.push(Effect::AutoRemove);
    }
    let next = State {
        phase: if restart { Phase::Restarting } else { Phase::Exited },
        pid: 0,
        exit_code: code,
        error,
        oom_killed: state.oom_killed || oom,
        finished_at: Some(at),
        restart_count: state.restart_count + u32::from(restart),
        backoff,
        ..state
    };
    Ok((next, effects))
}

fn stop(state: State, to_restart: bool) -> Result<(State, Vec<Effect>), Conflict> {
    let mut asked = State {
        restarting_by_hand: to_restart,
        ..state
    };
    if !to_restart {
        asked.manually_stopped = true;
    }
    match asked.phase {
        Phase::Running | Phase::Paused => {
            let thaw = if asked.phase == Phase::Paused {
                vec![Effect::Signal, Effect::Thaw]
            } else {
                vec![Effect::Signal]
            };
            Ok((
                State {
                    ending: true,
                    ..asked
                },
                thaw,
            ))
        }
        Phase::Restarting => {
            let next = State {
                phase: Phase::Exited,
                ..asked
            };
            let told = if to_restart {
                Vec::new()
            } else {
                vec![Effect::PublishStop]
            };
            Ok((
                next,
                [vec![Effect::CancelBackoff], told, vec![Effect::Save]].concat(),
            ))
        }
        Phase::Starting => Err(Conflict::Starting),
        Phase::Created | Phase::Exited | Phase::Dead => Err(Conflict::Unchanged),
        Phase::Removing | Phase::Removed => Err(Conflict::Removing),
    }
}

fn kill(state: State, ends: bool) -> Result<(State, Vec<Effect>), Conflict> {
    match state.phase {
        Phase::Running | Phase::Paused => {
            let thaw = ends && state.phase == Phase::Paused;
            let next = State {
                ending: state.ending || ends,
                manually_stopped: true,
                ..state
            };
            Ok((
                next,
                if thaw {
                    vec![Effect::Signal, Effect::Thaw]
                } else {
                    vec![Effect::Signal]
                },
            ))
        }
        Phase::Restarting if ends => {
            let next = State {
                phase: Phase::Exited,
                manually_stopped: true,
                ..state
            };
            Ok((next, vec![Effect::CancelBackoff, Effect::Save]))
        }
        Phase::Restarting => Ok((
            State {
                manually_stopped: true,
                ..state
            },
            Vec::new(),
        )),
        Phase::Starting => Err(Conflict::Starting),
        _ => Err(Conflict::NotRunning),
    }
}

fn freeze(state: State, frozen: bool) -> Result<(State, Vec<Effect>), Conflict> {
    match (state.phase, frozen) {
        (Phase::Running, true) => Ok((
            State {
                phase: Phase::Paused,
                ..state
            },
            vec![Effect::Save],
        )),
        (Phase::Paused, false) => Ok((
            State {
                phase: Phase::Running,
                ..state
            },
            vec![Effect::Save],
        )),
        (Phase::Paused, true) => Err(Conflict::Paused),
        (Phase::Running, false) => Err(Conflict::NotPaused),
        (Phase::Restarting, true) => Err(Conflict::Restarting),
        (Phase::Starting, _) => Err(Conflict::Starting),
        (_, true) => Err(Conflict::NotRunning),
        (_, false) => Err(Conflict::NotPaused),
    }
}

fn remove(state: State, event: &Event) -> Result<(State, Vec<Effect>), Conflict> {
    match (state.phase, event) {
        (Phase::Removing, Event::Removed) => Ok((
            State {
                phase: Phase::Removed,
                ..state
            },
            Vec::new(),
        )),
        (Phase::Removing, Event::RemoveFailed) => Ok((
            State {
                phase: Phase::Dead,
                ..state
            },
            vec![Effect::Save],
        )),
        (_, Event::Removed | Event::RemoveFailed) => Err(Conflict::Stale),
        (Phase::Created | Phase::Exited | Phase::Dead, _) => Ok((
            State {
                phase: Phase::Removing,
                ..state
            },
            Vec::new(),
        )),
        (Phase::Running, _) => Err(Conflict::Running),
        (Phase::Paused, _) => Err(Conflict::Paused),
        (Phase::Restarting, _) => Err(Conflict::Restarting),
        (Phase::Starting, _) => Err(Conflict::Starting),
        (Phase::Removing | Phase::Removed, _) => Err(Conflict::Removing),
    }
}

/// A policy that no longer restarts ends a back-off that waits.
fn set_policy(state: State, policy: RestartPolicy) -> Result<(State, Vec<Effect>), Conflict> {
    let mut next = State { policy, ..state };
    if next.phase == Phase::Restarting && !next.wants_restart(next.exit_code) {
        next.phase = Phase::Exited;
        return Ok((next, vec![Effect::CancelBackoff, Effect::Save]));
    }
    Ok((next, vec![Effect::Save]))
}

fn adopt(state: State, pid: i32, at: SystemTime, paused: bool) -> (State, Vec<Effect>) {
    let phase = if paused { Phase::Paused } else { Phase::Running };
    let next = State {
        phase,
        pid,
        started_at: Some(at),
        held: true,
        ..state
    };
    (
        next,
        if paused {
            Vec::new()
        } else {
            vec![Effect::StartHealth]
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn exit(code: i32, seconds: u64) -> Event {
        Event::Exited {
            code,
            at: at(seconds),
            oom: false,
            error: String::new(),
        }
    }

    fn run(policy: RestartPolicy) -> State {
        let (state, effects) = step(
            State {
                policy,
                ..State::default()
            },
            Event::Start,
        )
        .unwrap();
        assert_eq!(effects, [Effect::Launch]);
        step(state, Event::Started { pid: 7, at: at(100) }).unwrap().0
    }

    #[test]
    fn an_end_is_told_before_anything_is_freed() {
        let (state, effects) = step(run(RestartPolicy::No), exit(3, 101)).unwrap();
        assert_eq!(
            (state.phase, state.exit_code, state.held),
            (Phase::Exited, 3, true)
        );
        assert_eq!(
            effects,
            [
                Effect::StopHealth,
                Effect::PublishDie,
                Effect::Release,
                Effect::Save
            ]
        );
        assert_eq!(step(state.clone(), Event::Start), Err(Conflict::Held));
        assert!(step(step(state, Event::Released).unwrap().0, Event::Start).is_ok());
    }

    #[test]
    fn backoff_doubles_to_a_minute_and_resets_after_ten_seconds() {
        let mut state = run(RestartPolicy::Always);
        let mut now = 100;
        let mut delays = Vec::new();
        for _ in 0..12 {
            now += 1;
            let (ended, effects) = step(state, exit(0, now)).unwrap();
            delays.extend(effects.iter().filter_map(|e| {
                if let Effect::Backoff(d) = e {
                    Some(d.as_millis())
                } else {
                    None
                }
            }));
            let (freed, _) = step(ended, Event::Released).unwrap();
            let (again, _) = step(freed, Event::BackoffOver).unwrap();
            state = step(again, Event::Started { pid: 8, at: at(now) }).unwrap().0;
        }
        assert_eq!(
            delays,
            [
                100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000
            ]
        );
        assert_eq!(state.restart_count, 12);
        let (_, effects) = step(state, exit(0, now + 10)).unwrap();
        assert!(effects.contains(&Effect::Backoff(BACKOFF_FIRST)));
    }

    #[test]
    fn policies_are_dockers() {
        let restarts = |policy, code, by_hand| {
            let mut state = run(policy);
            if by_hand {
                state = step(state, Event::Kill { ends: false }).unwrap().0;
            }
            step(state, exit(code, 101)).unwrap().0.phase == Phase::Restarting
        };
        assert!(!restarts(RestartPolicy::No, 1, false));
        assert!(restarts(RestartPolicy::Always, 0, false));
        assert!(restarts(RestartPolicy::Always, 0, true));
        assert!(restarts(RestartPolicy::UnlessStopped, 0, false));
        assert!(!restarts(RestartPolicy::UnlessStopped, 0, true));
        assert!(restarts(RestartPolicy::OnFailure { max: 0 }, 1, false));
        assert!(!restarts(RestartPolicy::OnFailure { max: 0 }, 0, false));
        let stopped = step(run(RestartPolicy::Always), Event::Stop).unwrap().0;
        assert_eq!(step(stopped, exit(0, 101)).unwrap().0.phase, Phase::Exited);
    }

    #[test]
    fn a_stop_during_the_backoff_tells_of_stop_alone() {
        let waiting = step(run(RestartPolicy::Always), exit(1, 101)).unwrap().0;
        let (state, effects) = step(waiting, Event::Stop).unwrap();
        assert_eq!(
            effects,
            [Effect::CancelBackoff, Effect::PublishStop, Effect::Save]
        );
        assert_eq!((state.phase, state.manually_stopped), (Phase::Exited, true));
        assert_eq!(step(state, Event::BackoffOver), Err(Conflict::Stale));
    }

    #[test]
    fn a_restart_by_hand_neither_removes_nor_restarts_by_policy() {
        let mut state = run(RestartPolicy::No);
        state.auto_remove = true;
        let (state, _) = step(state, Event::StopToRestart).unwrap();
        let (state, effects) = step(state, exit(137, 102)).unwrap();
        assert!(!effects.contains(&Effect::AutoRemove));
        assert_eq!((state.phase, state.manually_stopped), (Phase::Exited, false));
    }

    fn any_event() -> impl Strategy<Value = Event> {
        prop_oneof![
            Just(Event::Start),
            Just(Event::BackoffOver),
            (1..9i32, 100..200u64).prop_map(|(pid, s)| Event::Started { pid, at: at(s) }),
            Just(Event::StartFailed {
                code: 127,
                message: "no".into()
            }),
            (0..3i32, 100..300u64).prop_map(|(code, s)| exit(code, s)),
            Just(Event::Oom),
            Just(Event::Released),
            Just(Event::Stop),
            Just(Event::StopToRestart),
            Just(Event::RestartDone),
            any::<bool>().prop_map(|ends| Event::Kill { ends }),
            Just(Event::Paused),
            Just(Event::Unpaused),
            Just(Event::Remove),
            Just(Event::Removed),
            Just(Event::RemoveFailed),
            Just(Event::Policy(RestartPolicy::OnFailure { max: 2 })),
            Just(Event::Policy(RestartPolicy::No)),
        ]
    }

    proptest! {
        #[test]
        fn invariants_hold_along_every_history(
            policy in prop_oneof![Just(RestartPolicy::No), Just(RestartPolicy::Always), Just(RestartPolicy::OnFailure { max: 1 })],
            auto_remove in any::<bool>(),
            events in proptest::collection::vec(any_event(), 0..60),
        ) {
            let mut state = State { policy, auto_remove, ..State::default() };
            for event in events {
                let before = state.clone();
                let Ok((next, effects)) = step(before.clone(), event.clone()) else { continue };
                // A process is there exactly while it runs or is frozen.
                prop_assert_eq!(next.alive(), next.pid != 0, "{:?} -> {:?}", event, next);
                // Whatever runs or is being made holds resources.
                if next.alive() || next.phase == Phase::Starting {
                    prop_assert!(next.held);
                }
                // Nothing is launched while the last run holds something.
                if effects.contains(&Effect::Launch) {
                    prop_assert!(!before.held);
                }
                // Every end is told once, and frees.
                if before.alive() && !next.alive() {
                    prop_assert_eq!(effects.iter().filter(|e| **e == Effect::PublishDie).count(), 1);
                    prop_assert!(effects.contains(&Effect::Release));
                }
                // Removed stays removed.
                if before.phase == Phase::Removed {
                    prop_assert_eq!(next.phase, Phase::Removed);
                }
                // A removal never takes what runs.
                if next.phase == Phase::Removing && before.phase != Phase::Removing {
                    prop_assert!(!before.alive());
                }
                // Restart and automatic removal exclude each other.
                prop_assert!(!(effects.contains(&Effect::AutoRemove) && effects.iter().any(|e| matches!(e, Effect::Backoff(_)))));
                state = next;
            }
        }
    }
}
