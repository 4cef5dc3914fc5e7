//! Who uses the demonstration: a few tenants on several plans, each with habits of its own.

/// A tenant and its habits.
#[derive(Clone, Copy, Debug)]
pub struct DemoTenant {
    /// Its id.
    pub id: &'static str,
    /// Its name.
    pub name: &'static str,
    /// A shipped plan.
    pub plan: &'static str,
    /// A limit of its own on tokens a day.
    pub tokens_per_day: Option<u64>,
    /// Calls on a working day.
    pub calls_per_day: u64,
    /// The UTC hour around which it is busiest; `None` is never at rest.
    pub busiest_hour: Option<u32>,
    /// Its models of chat, with weights.
    pub models: &'static [(u32, &'static str)],
    /// How many of a hundred calls fail.
    pub failing_percent: u32,
    /// How many of a hundred live calls are its.
    pub live_share: u32,
}

/// All of them.
pub const TENANTS: [DemoTenant; 7] = [
    DemoTenant {
        id: "northwind-bank",
        name: "Northwind Bank",
        plan: "enterprise",
        tokens_per_day: None,
        calls_per_day: 900,
        busiest_hour: Some(10),
        models: &[(6, "gpt-4o"), (3, "claude-sonnet-4-5"), (1, "gpt-4o-mini")],
        failing_percent: 2,
        live_share: 28,
    },
    DemoTenant {
        id: "globe-travel",
        name: "Globe Travel",
        plan: "enterprise",
        tokens_per_day: None,
        calls_per_day: 600,
        busiest_hour: None,
        models: &[(7, "gpt-4o-mini"), (3, "gemini-2.5-flash")],
        failing_percent: 4,
        live_share: 22,
    },
    DemoTenant {
        id: "acme",
        name: "Acme Ltd",
        plan: "pro",
        tokens_per_day: None,
        calls_per_day: 190,
        busiest_hour: Some(14),
        models: &[(8, "gpt-4o-mini-2024-07-18"), (2, "gpt-4o")],
        failing_percent: 2,
        live_share: 16,
    },
    DemoTenant {
        id: "city-library",
        name: "City Library",
        plan: "pro",
        tokens_per_day: None,
        calls_per_day: 130,
        busiest_hour: Some(16),
        models: &[(1, "claude-haiku-4-5")],
        failing_percent: 12,
        live_share: 12,
    },
    DemoTenant {
        id: "green-garden",
        name: "Green Garden",
        plan: "starter",
        tokens_per_day: None,
        calls_per_day: 62,
        busiest_hour: Some(9),
        models: &[(1, "gpt-4o-mini")],
        failing_percent: 2,
        live_share: 8,
    },
    DemoTenant {
        id: "kite-school",
        name: "Kite School",
        plan: "trial",
        tokens_per_day: None,
        calls_per_day: 8,
        busiest_hour: Some(18),
        models: &[(1, "gpt-4o-mini")],
        failing_percent: 0,
        live_share: 5,
    },
    // Its own limit is so low that a minute of live traffic crosses it, whatever the hour.
    DemoTenant {
        id: "corner-bakery",
        name: "Corner Bakery",
        plan: "trial",
        tokens_per_day: Some(5_000),
        calls_per_day: 2,
        busiest_hour: Some(6),
        models: &[(1, "gpt-4o-mini")],
        failing_percent: 0,
        live_share: 9,
    },
];

impl DemoTenant {
    /// How busy each UTC hour is; the sum is not 0.
    pub fn rhythm(&self) -> [(u32, u32); 24] {
        std::array::from_fn(|hour| {
            let hour = hour as u32;
            let weight = match self.busiest_hour {
                None => 10 + 4 * u32::from((8..22).contains(&hour)),
                Some(busiest) => {
                    let away = hour.abs_diff(busiest).min(24 - hour.abs_diff(busiest));
                    [20, 18, 15, 12, 8, 5, 3].get(away as usize).copied().unwrap_or(1)
                }
            };
            (weight, hour)
        })
    }
}
