//! How live forecasts do: absolute errors in km/h.

/// Windows that [`Recent`] remembers: a day.
const MEMORY: f64 = 288.0;

/// Summed over all that were scored.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Score {
    pub scored: f64,
    pub error: f64,
    /// The same of the last value as forecast.
    pub persistence_error: f64,
}

impl Score {
    pub fn add(&mut self, error: f64, persistence_error: f64) {
        self.scored += 1.0;
        self.error += error;
        self.persistence_error += persistence_error;
    }

    pub fn merge(&mut self, other: &Self) {
        self.scored += other.scored;
        self.error += other.error;
        self.persistence_error += other.persistence_error;
    }

    /// A window has passed: what was scored counts a little less, 1/e after a day.
    pub fn fade(&mut self) {
        for sum in [&mut self.scored, &mut self.error, &mut self.persistence_error] {
            *sum *= 1.0 - 1.0 / MEMORY;
        }
    }
}

/// What was published, and what a challenger would have said in its place.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Duel {
    pub scored: f64,
    pub published_error: f64,
    pub challenger_error: f64,
}

impl Duel {
    pub fn add(&mut self, published_error: f64, challenger_error: f64) {
        self.scored += 1.0;
        self.published_error += published_error;
        self.challenger_error += challenger_error;
    }

    pub fn merge(&mut self, other: &Self) {
        self.scored += other.scored;
        self.published_error += other.published_error;
        self.challenger_error += other.challenger_error;
    }

    /// By how much the challenger's mean error is below that of what was published, as a share of it.
    #[must_use]
    pub fn improvement(&self) -> Option<f64> {
        (self.published_error > 0.0).then(|| 1.0 - self.challenger_error / self.published_error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_scored_a_day_ago_counts_a_third() {
        let mut recent = Score::default();
        (0..10).for_each(|_| recent.add(8.0, 4.0));
        (0..288).for_each(|_| recent.fade());
        assert!((recent.scored / 10.0 - 0.367).abs() < 0.002 && (recent.error / recent.scored - 8.0).abs() < 1e-9);
    }

    #[test]
    fn a_challenger_is_better_by_its_share_of_the_error() {
        let (mut duel, mut other) = (Duel::default(), Duel::default());
        assert_eq!(duel.improvement(), None);
        duel.add(4.0, 3.0);
        other.add(6.0, 6.0);
        duel.merge(&other);
        assert!(duel.scored == 2.0 && duel.improvement().is_some_and(|share| (share - 0.1).abs() < 1e-9), "{duel:?}");
    }
}
