//! Worlds of two to five servers on a simulated network and clock, in which random things happen from a seed; then the
//! network heals, and all must agree.
//!
//! `MATRYX_SIMULATION_SEEDS` (how many), `MATRYX_SIMULATION_SEED` (the first) and `MATRYX_SIMULATION_SCRIPT` (a file with
//! what a failing seed has printed, to run that alone) ask for more than the ordinary run does.

mod client;
mod deeds;
mod ground;
mod net;
mod node;
mod past;
mod script;
mod verdict;
mod world;

use std::{
    env, fs, panic,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use self::{
    script::{Script, Step},
    world::{Failure, World},
};

/// How many seeds the ordinary run tries.
const SEEDS: u64 = 200;
/// The stack of a thread that runs servers: the engine wants much of it.
const STACK: usize = 32 << 20;
/// Seeds whose worlds are made again.
const REPEATED: [u64; 4] = [2, 6, 7, 10];
/// How often that is tried until two are the same: housekeeping of the engine that goes by the machine's clock may come in
/// between.
const TRIES: usize = 6;
/// How often a failing script is run again to make it shorter.
const ATTEMPTS: usize = 80;

#[test]
fn servers_agree_after_whatever_has_happened() {
    let search = thread::Builder::new().stack_size(STACK).spawn(search).expect("a thread");
    if let Err(why) = search.join() {
        panic::resume_unwind(why);
    }
}

/// What has failed once, shortened.
const FAILED: [&str; 3] = [
    // What leads to what is held was taken in as extremities, and brought the state of then.
    r#"{"seed":359,"servers":3,"version":"7","rule":"public","steps":[{"Do":[[1,0],"Join"]},{"Do":[[2,0],"Join"]},{"Cut":[2,1]},{"Do":[[1,0],{"Invite":[0,1]}]},{"Do":[[2,0],"Say"]},{"Do":[[0,0],{"Rule":"knock"}]}]}"#,
    // Nobody listened any more who was put out by somebody who may not.
    r#"{"seed":8,"servers":4,"version":"12","rule":"knock","steps":[{"Do":[[0,0],{"Invite":[3,0]}]},{"Do":[[3,0],"Join"]},{"Do":[[0,0],{"Invite":[2,0]}]},{"Do":[[2,0],"Join"]},{"Do":[[0,0],{"Level":[[2,0],50]}]},{"Cut":[0,2]},{"Do":[[2,0],{"Ban":[3,0]}]},{"Do":[[0,0],{"Ban":[2,0]}]}]}"#,
    // A key could not be had while somebody joined.
    r#"{"seed":131,"servers":5,"version":"12","rule":"public","steps":[{"Fault":[2,1,"LoseAnswer",2]},{"Do":[[1,0],"Join"]},{"Do":[[2,0],"Join"]}]}"#,
];

#[test]
fn what_has_failed_once_agrees() {
    let all = || {
        for text in FAILED {
            let script: Script = serde_json::from_str(text).expect("a script");
            if let Err(why) = attempt(&script) {
                panic!("{why}\n{text}");
            }
        }
    };
    let all = thread::Builder::new().stack_size(STACK).spawn(all).expect("a thread");
    if let Err(why) = all.join() {
        panic::resume_unwind(why);
    }
}

/// The same script makes the same things happen in the same order, to the letter of what crosses the network.
#[test]
fn a_world_happens_twice() {
    let twice = || {
        for seed in REPEATED {
            let mut script = Script::of(seed);
            // Where a server dies in the midst of something, what the engine does by the machine's clock counts as well.
            script.steps.retain(|step| !matches!(step, Step::Crash(..)));
            let mut logs: Vec<Vec<String>> = Vec::new();
            let mut happens = |_| {
                let log = attempt(&script).expect("a world that agrees");
                let before = logs.contains(&log);
                logs.push(log);
                before
            };
            let again = (0..TRIES).any(&mut happens);
            let differs = || first_difference(&logs[0], &logs[1]);
            assert!(again, "seed {seed} has not happened again in {TRIES} tries: {}", differs());
        }
    };
    let twice = thread::Builder::new().stack_size(STACK).spawn(twice).expect("a thread");
    if let Err(why) = twice.join() {
        panic::resume_unwind(why);
    }
}

/// The first line that two logs don't have in common, in both.
fn first_difference(one: &[String], other: &[String]) -> String {
    let same = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    format!("line {same}:\n{:?}\n{:?}", one.get(same), other.get(same))
}

fn search() {
    if let Ok(path) = env::var("MATRYX_SIMULATION_SCRIPT") {
        let text = fs::read_to_string(path).expect("the script's file");
        let script: Script = serde_json::from_str(&text).expect("a script");
        if let Err(why) = attempt(&script) {
            panic!("{why}");
        }
        return;
    }
    let first = number("MATRYX_SIMULATION_SEED", 1);
    let last = first + number("MATRYX_SIMULATION_SEEDS", SEEDS);
    let next = AtomicU64::new(first);
    let failed = thread::scope(|scope| {
        let work = || {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= last {
                    return None;
                }
                let script = Script::of(seed);
                if let Err(why) = attempt(&script) {
                    // The others need not look any further.
                    next.store(last, Ordering::Relaxed);
                    return Some((script, why));
                }
            }
        };
        let worker = |_| {
            let builder = thread::Builder::new().stack_size(STACK);
            builder.spawn_scoped(scope, work).expect("a thread")
        };
        let workers: Vec<_> = (0..2).map(worker).collect();
        workers.into_iter().find_map(|worker| worker.join().expect("no panic"))
    });
    if let Some((script, why)) = failed {
        let (short, why) = shortened(script, why);
        let text = serde_json::to_string(&short).expect("JSON");
        panic!("seed {} fails: {why}\nthe script, shortened:\n{text}", short.seed);
    }
}

/// Runs a script; a panic is a failure like any other.
fn attempt(script: &Script) -> Result<Vec<String>, Failure> {
    panic::catch_unwind(|| World::run(script)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!("a panic: {}", text.unwrap_or("of no words")))
    })
}

/// The same failure, or another, with fewer steps.
fn shortened(mut script: Script, mut why: Failure) -> (Script, Failure) {
    let mut attempts = 0;
    let mut size = script.steps.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at < script.steps.len() && attempts < ATTEMPTS {
            let mut shorter = script.clone();
            shorter.steps.drain(at..(at + size).min(script.steps.len()));
            attempts += 1;
            match attempt(&shorter) {
                Err(other) => (script, why) = (shorter, other),
                Ok(_) => at += size,
            }
        }
        size /= 2;
    }
    (script, why)
}

fn number(name: &str, otherwise: u64) -> u64 {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}
