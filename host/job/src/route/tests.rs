use super::{
    guard::{Counts, ErrorRate, Guards, Latency},
    *,
};
use serde_json::json;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A running time: mostly about a median, now and then much longer, as they are.
    fn time_us(&mut self, median: f64) -> u64 {
        let normal = (0..6).map(|_| self.unit()).sum::<f64>() - 3.0;
        (median * (normal * 0.6).exp()) as u64
    }
}

fn version(arm: &str, weight: u8) -> Target {
    Target {
        arm: arm.into(),
        weight,
        version: Some(arm.repeat(8)),
        digest: Some(arm.repeat(8)),
        ..Target::default()
    }
}

fn route(targets: Vec<Target>) -> Route {
    Route { targets, ..Route::default() }
}

fn canary() -> Route {
    let canary = Canary {
        arm: "new".into(),
        baseline: None,
        steps: default_steps().into_iter().map(|step| Step { min_ms: 20_000, ..step }).collect(),
        guards: Guards::default(),
        alpha: default_alpha(),
    };
    Route { canary: Some(canary), ..route(vec![version("old", 100), version("new", 0)]) }
}

fn choose(stored: &Stored, key: u64) -> usize {
    stored.choose("t", &format!("job-{key}"), "{}", None)
}

#[test]
fn weights_are_met_within_chance() {
    let stored = Stored::begin(route(vec![version("a", 70), version("b", 25), version("c", 5)]), None, 0);
    let mut seen = [0_u32; 3];
    (0..100_000).for_each(|key| seen[choose(&stored, key)] += 1);
    for (seen, percent) in seen.iter().zip([70, 25, 5]) {
        let wanted = f64::from(percent) * 1_000.0;
        assert!((f64::from(*seen) - wanted).abs() < 5.0 * wanted.sqrt(), "{seen} of {percent} %");
    }
}

/// Whatever the weights are before and after: a key leaves only a target that shrinks.
#[test]
fn no_key_leaves_a_target_that_grows() {
    let mut random = Random(1);
    for _ in 0..300 {
        let arms = 2 + random.below(4) as usize;
        let draw = |random: &mut Random| {
            let mut weights = vec![0_u8; arms];
            (0..SLOTS).for_each(|_| weights[random.below(arms as u64) as usize] += 1);
            let names = (0..arms).map(|index| format!("arm{index}"));
            let mut targets: Vec<_> =
                names.zip(weights).map(|(name, weight)| version(&name, weight)).collect();
            // Their order does not matter.
            let turn = random.below(arms as u64) as usize;
            targets.rotate_left(turn);
            route(targets)
        };
        let before = Stored::begin(draw(&mut random), None, 0);
        let after = Stored::begin(draw(&mut random), Some(&before), 1);
        for target in &after.route.targets {
            let held =
                after.slots.iter().filter(|slot| after.route.targets[usize::from(**slot)].arm == target.arm);
            assert_eq!(held.count(), usize::from(target.weight));
        }
        for key in 0..500 {
            let (from, to) =
                (&before.route.targets[choose(&before, key)], &after.route.targets[choose(&after, key)]);
            let now = after.route.arm(&from.arm).map(|(_, target)| target.weight);
            assert!(from.arm == to.arm || now < Some(from.weight), "{from:?} to {to:?}");
        }
    }
}

#[test]
fn a_key_stays_with_its_target_and_flags_come_first() {
    let mut definition = route(vec![version("a", 50), version("b", 50)]);
    definition.sticky = Some("/input/tenant".into());
    definition.flags =
        vec![Flag { key: Some("/metadata/plan".into()), values: vec!["beta".into()], arm: "b".into() }];
    definition.check().unwrap();
    let stored = Stored::begin(definition, None, 0);
    let mut seen = BTreeSet::new();
    for tenant in 0..50 {
        let input = json!({"tenant": tenant}).to_string();
        let first = stored.choose("t", "job-0", &input, None);
        seen.insert(first);
        for id in 1..20 {
            assert_eq!(stored.choose("t", &format!("job-{id}"), &input, None), first);
        }
        assert_eq!(stored.choose("t", "job-0", &input, Some(r#"{"plan": "beta"}"#)), 1);
    }
    assert_eq!(seen.len(), 2);
    // A job without the key, or with an input that is no JSON, is spread by its id.
    let spread: BTreeSet<_> = (0..50).map(|id| stored.choose("t", &format!("job-{id}"), "?", None)).collect();
    assert_eq!(spread.len(), 2);
}

#[test]
fn a_wrong_route_is_refused_by_its_field() {
    let good = canary();
    good.check().unwrap();
    type Change = fn(&mut Route);
    let cases: [(&str, Change); 18] = [
        ("/targets", |route| route.targets.clear()),
        ("/targets/0", |route| route.targets[0].version = None),
        ("/targets/0", |route| route.targets[0].http = Some(Http { url: "https://a".into() })),
        ("/targets/1/arm", |route| route.targets[1].arm = "old".into()),
        ("/targets/1/arm", |route| route.targets[1].arm = "New".into()),
        ("/targets/1/http/url", |route| {
            route.targets[1] =
                Target { arm: "new".into(), http: Some(Http { url: "ftp://a".into() }), ..Target::default() };
        }),
        ("/targets", |route| {
            route.canary = None;
            route.targets[0].weight = 90;
        }),
        ("/targets", |route| route.targets.push(version("third", 1))),
        ("/sticky", |route| route.sticky = Some("tenant".into())),
        ("/flags/0/arm", |route| {
            route.flags = vec![Flag { arm: "x".into(), ..Flag::default() }];
        }),
        ("/flags/0/key", |route| {
            route.flags = vec![Flag { arm: "new".into(), ..Flag::default() }];
        }),
        ("/canary", |route| route.canary.as_mut().unwrap().arm = "x".into()),
        ("/canary", |route| route.canary.as_mut().unwrap().baseline = Some("new".into())),
        ("/canary/steps", |route| route.canary.as_mut().unwrap().steps.truncate(2)),
        ("/canary/steps/1/percent", |route| route.canary.as_mut().unwrap().steps[1].percent = 10),
        ("/canary/alpha", |route| route.canary.as_mut().unwrap().alpha = 0.0),
        ("/canary/guards/mismatch", |route| {
            route.canary.as_mut().unwrap().guards.mismatch = Some(guard::Mismatch::default());
        }),
        ("/shadow/percent", |route| {
            route.shadow = Some(Shadow { arm: "new".into(), percent: 0.0, ..Shadow::default() });
        }),
    ];
    for (field, change) in cases {
        let mut bad = good.clone();
        change(&mut bad);
        assert_eq!(bad.check().unwrap_err().0, field, "{bad:?}");
    }
}

#[test]
fn a_canary_is_held_promoted_and_rolled_back_by_hand() {
    let first = Stored::begin(canary(), None, 1_000);
    assert_eq!((first.route.targets[0].weight, first.route.targets[1].weight), (90, 10));
    let held = first.hold(2_000).unwrap();
    assert_eq!(held.look(&good(1_000), 1_000_000), held.look(&good(1_000), 1_000_000));
    assert!(!matches!(held.look(&good(1_000), 1_000_000), Some(Decision::Advance(..))), "it stays");
    assert!(held.hold(3_000).is_none());
    let second = held.promote(false, 3_000).unwrap();
    assert_eq!((second.route.targets[1].weight, second.progress.as_ref().unwrap().step), (25, 1));
    assert!(second.epoch > first.epoch, "counts begin anew");
    let back = second.roll_back(4_000).unwrap();
    assert_eq!((back.route.targets[0].weight, back.route.targets[1].weight), (100, 0));
    assert!(back.roll_back(5_000).is_none() && back.promote(true, 5_000).is_none());
    assert!((0..1_000).all(|key| choose(&back, key) == 0));
    let whole = second.promote(true, 4_000).unwrap();
    assert_eq!(whole.progress.as_ref().unwrap().standing, Standing::Promoted);
    assert!((0..1_000).all(|key| choose(&whole, key) == 1));
    assert!(whole.roll_back(5_000).is_some(), "what was promoted can be rolled back");
}

#[test]
fn a_flag_does_not_lead_to_what_was_rolled_back() {
    let mut definition = canary();
    definition.flags =
        vec![Flag { key: Some("/input/tenant".into()), values: vec!["acme".into()], arm: "new".into() }];
    let stored = Stored::begin(definition, None, 0);
    let input = r#"{"tenant": "acme"}"#;
    assert_eq!(stored.choose("t", "job", input, None), 1);
    assert_eq!(stored.roll_back(1).unwrap().choose("t", "job", input, None), 0);
}

fn good(attempts: u64) -> Counts {
    let mut arm = guard::Arm::default();
    (0..attempts).for_each(|_| arm.succeeded(1_000, 10));
    Counts { arms: [("old".to_owned(), arm.clone()), ("new".to_owned(), arm)].into(), ..Counts::default() }
}

#[test]
fn a_step_takes_its_time_and_its_sample() {
    let stored = Stored::begin(canary(), None, 0);
    assert_eq!(stored.look(&good(29), 1_000_000), None, "too few");
    assert!(matches!(stored.look(&good(30), 10_000), Some(Decision::Looked(_))), "too soon");
    let Some(Decision::Looked(looked)) = stored.look(&good(30), 10_000) else { panic!() };
    assert_eq!(looked.epoch, stored.epoch);
    assert_eq!(looked.look(&good(44), 10_000), None, "the next look is due with 45");
    let Some(Decision::Advance(next, _)) = looked.look(&good(44), 20_000) else { panic!() };
    assert_eq!((next.route.targets[1].weight, next.progress.as_ref().unwrap().looks), (25, 0));
}

/// What became of one canary of simulated jobs, and how many jobs ran on the new version until then.
fn simulate(random: &mut Random, errors: [f64; 2], median_us: [f64; 2]) -> (Standing, u64) {
    let mut stored = Stored::begin(canary(), None, 0);
    let (mut counts, mut tried) = (Counts::default(), 0);
    for second in 1..2_000_u64 {
        let percent = u64::from(stored.route.targets[1].weight);
        for _ in 0..50 {
            let which = usize::from(random.below(100) < percent);
            let arm = counts.arms.entry(["old", "new"][which].to_owned()).or_default();
            tried += which as u64;
            if random.unit() < errors[which] {
                arm.failed();
            } else {
                arm.succeeded(random.time_us(median_us[which]), 100);
            }
        }
        let epoch = stored.epoch;
        stored = match stored.look(&counts, second * 1_000) {
            None => continue,
            Some(Decision::Looked(next) | Decision::Advance(next, _) | Decision::RollBack(next, _)) => next,
        };
        if stored.epoch != epoch {
            counts = Counts::default();
        }
        let standing = stored.progress.as_ref().unwrap().standing.clone();
        if matches!(standing, Standing::Promoted | Standing::RolledBack) {
            return (standing, tried);
        }
    }
    panic!("the canary never ends");
}

/// The figure that docs/routes.md gives. The sum of all that can go wrong by chance is at most alpha = 1 %.
#[test]
fn of_a_thousand_canaries_without_a_fault_hardly_any_is_rolled_back() {
    let mut random = Random(7);
    let mut wrong = 0;
    for round in 0..1_000 {
        let errors = [0.0, 0.01, 0.05, 0.3][round % 4];
        let (standing, _) = simulate(&mut random, [errors; 2], [20_000.0; 2]);
        wrong += u32::from(standing == Standing::RolledBack);
    }
    println!("{wrong} of 1,000 canaries without a fault were rolled back");
    assert!(wrong <= 10, "{wrong} of 1,000");
}

/// With the least tolerance that can be set, where both guards are as likely to be wrong as they can be.
#[test]
fn without_tolerance_false_alarms_stay_below_alpha() {
    let mut random = Random(11);
    let guards = Guards {
        error_rate: Some(ErrorRate { min_samples: 20, at_least: 0.0 }),
        latency: Some(Latency { min_samples: 20, ratio: 1.0 }),
        mismatch: None,
    };
    let mut wrong = 0;
    for _ in 0..1_000 {
        let mut counts = Counts::default();
        let mut definition = canary();
        let canary = definition.canary.as_mut().unwrap();
        canary.guards = guards.clone();
        canary.alpha = 0.05;
        let mut stored = Stored::begin(definition, None, 0);
        // Only the first step, as long as it likes.
        for _ in 0..40 {
            for _ in 0..100 {
                let arm = if random.below(10) == 0 { "new" } else { "old" };
                let arm = counts.arms.entry(arm.to_owned()).or_default();
                if random.unit() < 0.05 { arm.failed() } else { arm.succeeded(random.time_us(1e4), 1) }
            }
            match stored.look(&counts, 1) {
                Some(Decision::RollBack(..)) => {
                    wrong += 1;
                    break;
                }
                Some(Decision::Looked(next)) => stored = next,
                _ => {}
            }
        }
    }
    // One of four steps may spend a fourth of 5 %: 12.5 of 1,000 expected at most.
    println!("{wrong} of 1,000 first steps without a fault were rolled back");
    assert!(wrong <= 25, "{wrong} of 1,000");
}

#[test]
fn five_per_cent_of_errors_and_doubled_running_times_are_found() {
    let mut random = Random(13);
    for (what, errors, medians) in
        [("5 % of errors", [0.0, 0.05], [2e4, 2e4]), ("doubled times", [0.01, 0.01], [2e4, 4e4])]
    {
        let mut tried = Vec::new();
        for _ in 0..200 {
            let (standing, jobs) = simulate(&mut random, errors, medians);
            assert_eq!(standing, Standing::RolledBack, "{what}");
            tried.push(jobs);
        }
        tried.sort_unstable();
        println!("{what}: found after {} jobs in the middle, {} at most", tried[100], tried[199]);
    }
}

#[test]
fn a_copy_is_drawn_for_the_share_that_is_asked_for() {
    let mut definition = route(vec![version("old", 100), version("new", 0)]);
    definition.shadow = Some(Shadow { arm: "new".into(), percent: 12.5, ..Shadow::default() });
    definition.check().unwrap();
    let stored = Stored::begin(definition, None, 0);
    let drawn = (0..100_000).filter(|key| stored.shadows("t", &format!("job-{key}")).is_some()).count();
    assert!((12_000..13_000).contains(&drawn), "{drawn}");
}

#[test]
fn what_was_changed_can_be_undone() {
    let first = Stored::begin(canary(), None, 1_000).promote(false, 2_000).unwrap();
    let back = first.roll_back(3_000).unwrap();
    let again = Stored::again(&first, Some(&back), 4_000);
    assert_eq!((&again.route, again.progress.as_ref().unwrap().step), (&first.route, 1));
    assert_eq!(again.progress.as_ref().unwrap().standing, Standing::Running);
    assert!(again.revision > back.revision && again.epoch == again.revision);
    assert_eq!(again.slots.iter().filter(|slot| **slot == 1).count(), 25);
}
