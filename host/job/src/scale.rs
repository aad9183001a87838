//! How much there should be: slots of a deployment, and slots of one host.

/// What a deployment does at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// Jobs that could be claimed now.
    pub waiting: u64,
    /// Slots in use.
    pub running: u64,
    /// How long a job holds a slot, microseconds; 0: not known.
    pub stay_us: u64,
}

impl Demand {
    /// Slots with which the last of the waiting jobs begins within `target_ms`: one slot ends `target_ms / stay` jobs
    /// in that time. Where the stay is not known each waiting job counts as one slot.
    #[must_use]
    pub fn slots(self, target_ms: u64) -> u64 {
        let more = if self.stay_us == 0 || target_ms == 0 {
            self.waiting
        } else {
            let busy_us = u128::from(self.waiting) * u128::from(self.stay_us);
            let more = busy_us.div_ceil(u128::from(target_ms) * 1_000);
            u64::try_from(more).unwrap_or(u64::MAX).min(self.waiting)
        };
        self.running.saturating_add(more)
    }
}

/// What holds for the slots of one worker process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// Fewest slots, at least 1.
    pub min: u32,
    /// Most slots, at least `min`.
    pub max: u32,
    /// Share of the processors in use above which no slot is added, and slots are taken away; 1: none is.
    pub cpu_max: f64,
    /// The same for memory.
    pub memory_max: f64,
}

/// What was seen at one look.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Look {
    /// Jobs that could be claimed now.
    pub waiting: u64,
    /// How long the oldest of them has waited, milliseconds.
    pub oldest_ms: u64,
    /// Slots in use, of one worker process.
    pub used: u32,
    /// Share of the processors in use, 0 to 1.
    pub cpu: f64,
    /// Share of the memory in use, 0 to 1.
    pub memory: f64,
}

/// Waiting for longer than this doubles the slots, where a shorter wait adds a quarter, milliseconds.
const LONG_MS: u64 = 2_000;
/// Slots are taken away after so many looks in a row that all asked for it.
const CALM_LOOKS: u32 = 5;
/// Slots are added only below this part of a bound, and taken away only above the whole: in between nothing moves.
const FREE: f64 = 0.9;

/// The slots of one worker process, which follow what is seen.
///
/// They grow at once and shrink slowly: growth needs jobs that wait while nearly all slots are in use; shrinking needs
/// several looks in a row at which fewer than half are in use, or processors or memory are short. Since slots at most
/// double, and only if all of them are in use, a steady demand never makes them go up and down.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slots {
    bounds: Bounds,
    now: u32,
    idle: u32,
    short: u32,
}

impl Slots {
    /// Begins with the fewest.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, now: bounds.min, idle: 0, short: 0 }
    }

    /// How many there shall be now.
    #[must_use]
    pub fn now(&self) -> u32 {
        self.now
    }

    /// Takes a look into account. Returns how many slots there shall be from now on.
    pub fn look(&mut self, look: &Look) -> u32 {
        let Bounds { min, max, cpu_max, memory_max } = self.bounds;
        let above = |share: f64, most: f64| most < 1.0 && share > most;
        let below = |share: f64, most: f64| most >= 1.0 || share < most * FREE;
        let short = above(look.cpu, cpu_max) || above(look.memory, memory_max);
        let idle = look.used < self.now / 2;
        self.short = if short { self.short + 1 } else { 0 };
        self.idle = if idle && !short { self.idle + 1 } else { 0 };
        let full = u64::from(look.used) * 10 >= u64::from(self.now) * 9;
        let room = below(look.cpu, cpu_max) && below(look.memory, memory_max);
        if self.short >= CALM_LOOKS || self.idle >= CALM_LOOKS {
            (self.short, self.idle) = (0, 0);
            self.now = (self.now - self.now.div_ceil(4)).max(min);
        } else if look.waiting > 0 && full && room {
            let more = if look.oldest_ms > LONG_MS { self.now } else { self.now.div_ceil(4) };
            self.now = self.now.saturating_add(more).min(max);
        }
        self.now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { min: 2, max: 64, cpu_max: 0.9, memory_max: 0.9 };

    /// So many jobs want to run; those that find no slot wait for `oldest_ms`.
    fn demand(slots: &Slots, jobs: u32, oldest_ms: u64) -> Look {
        let used = jobs.min(slots.now());
        Look { waiting: u64::from(jobs - used), oldest_ms, used, ..Look::default() }
    }

    #[test]
    fn slots_are_those_that_end_all_that_waits_in_time() {
        let demand = |waiting, stay_us| Demand { waiting, running: 5, stay_us };
        assert_eq!(demand(0, 1_000_000).slots(10_000), 5);
        // One slot runs ten of these in time.
        assert_eq!(demand(100, 1_000_000).slots(10_000), 15);
        assert_eq!(demand(101, 1_000_000).slots(10_000), 16);
        assert_eq!(demand(1, 1).slots(10_000), 6);
        // No more than one slot per job helps.
        assert_eq!(demand(10, 3_600_000_000).slots(10_000), 15);
        assert_eq!(demand(10, 0).slots(10_000), 15);
        assert_eq!(demand(u64::MAX, u64::MAX).slots(1), u64::MAX);
    }

    #[test]
    fn slots_double_for_jobs_that_wait_long_and_come_back_when_it_is_calm() {
        let mut slots = Slots::new(BOUNDS);
        let mut seen = vec![slots.now()];
        for _ in 0..5 {
            let look = demand(&slots, 1_000, 5_000);
            seen.push(slots.look(&look));
        }
        assert_eq!(seen, [2, 4, 8, 16, 32, 64]);
        for _ in 0..4 {
            assert_eq!(slots.look(&Look::default()), 64, "one calm look is not enough");
        }
        assert_eq!(slots.look(&Look::default()), 48);
        for _ in 0..200 {
            let _ = slots.look(&Look::default());
        }
        assert_eq!(slots.now(), 2);
    }

    #[test]
    fn a_short_wait_adds_a_quarter() {
        let mut slots = Slots { now: 16, ..Slots::new(BOUNDS) };
        let look = demand(&slots, 1_000, 100);
        assert_eq!(slots.look(&look), 20);
    }

    #[test]
    fn a_busy_machine_gets_no_more_slots_and_loses_some() {
        let mut slots = Slots { now: 16, ..Slots::new(BOUNDS) };
        let look = |cpu| Look { waiting: 100, oldest_ms: 9_000, used: 16, cpu, memory: 0.1 };
        for _ in 0..50 {
            assert_eq!(slots.look(&look(0.85)), 16, "between the marks nothing moves");
        }
        for _ in 0..4 {
            assert_eq!(slots.look(&look(0.95)), 16);
        }
        assert_eq!(slots.look(&look(0.95)), 12);
        let full = Look { memory: 0.95, ..look(0.1) };
        for _ in 0..4 {
            assert_eq!(slots.look(&full), 12);
        }
        assert_eq!(slots.look(&full), 9);
        // Where a bound is 1 it is not looked at.
        let mut slots = Slots::new(Bounds { cpu_max: 1.0, memory_max: 1.0, ..BOUNDS });
        assert_eq!(slots.look(&Look { memory: 1.0, used: 2, ..look(1.0) }), 4);
    }

    #[test]
    fn slots_stay_within_their_bounds_whatever_is_seen() {
        // Looks from a fixed seed (xorshift).
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut draw = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        for _ in 0..500 {
            let min = 1 + draw(50) as u32;
            let bounds = Bounds { min, max: min + draw(100) as u32, ..BOUNDS };
            let mut slots = Slots::new(bounds);
            for _ in 0..200 {
                let before = slots.now();
                let look = Look {
                    waiting: draw(100),
                    oldest_ms: draw(10_000),
                    used: draw(200) as u32,
                    cpu: draw(101) as f64 / 100.0,
                    memory: draw(101) as f64 / 100.0,
                };
                let now = slots.look(&look);
                assert!((bounds.min..=bounds.max).contains(&now), "{now} after {look:?}");
                assert!(now <= 2 * before && now >= before - before.div_ceil(4), "{before}, {now}: {look:?}");
            }
        }
    }

    #[test]
    fn a_steady_demand_settles_without_going_up_and_down() {
        for (jobs, start, oldest_ms) in (0..200)
            .flat_map(|jobs| (2..=64).flat_map(move |start| [(jobs, start, 100), (jobs, start, 9_000)]))
        {
            let mut slots = Slots { now: start, ..Slots::new(BOUNDS) };
            let (mut before, mut turns, mut direction) = (start, 0, 0);
            for _ in 0..100 {
                let look = demand(&slots, jobs, oldest_ms);
                let now = slots.look(&look);
                let way = (i64::from(now) - i64::from(before)).signum();
                if way != 0 && way != direction {
                    (turns, direction) = (turns + 1, way);
                }
                before = now;
            }
            assert!(turns <= 1, "{jobs} jobs, begun with {start}: {turns} turns");
            assert!(before >= jobs.clamp(2, 64), "{before} slots for {jobs} jobs, begun with {start}");
        }
    }
}
