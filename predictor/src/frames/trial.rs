//! Whether the regression is to be trusted.

/// How far from the fallback towards the regression a forecast is put: what did best lately, by regime, with all of
/// them tried on everything.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Trial {
    /// Windows in which they were scored.
    pub windows: f64,
    /// Recent mean absolute errors, km/h, of [`Trial::SHARES`].
    pub errors: [f64; 3],
}

impl Trial {
    pub const SHARES: [f64; 3] = [0.0, 0.5, 1.0];
    /// Windows that an error remembers: two hours, so that a rush hour is judged by itself.
    const MEMORY: f64 = 24.0;
    /// Fewer windows than this prove nothing.
    const ENOUGH: f64 = 12.0;

    /// Mean absolute errors of one window.
    pub fn add(&mut self, errors: [f64; 3]) {
        self.windows += 1.0;
        let share = 1.0 / self.windows.min(Self::MEMORY);
        for (recent, error) in self.errors.iter_mut().zip(errors) {
            *recent += (error - *recent) * share;
        }
    }

    #[must_use]
    pub fn share(&self) -> f64 {
        if self.windows < Self::ENOUGH {
            return 0.0;
        }
        let best = self.errors.iter().zip(Self::SHARES).min_by(|a, b| a.0.total_cmp(b.0));
        best.map_or(0.0, |(_, share)| share)
    }
}
