//! Where corridors lie: lines along freeways of the Los Angeles region, roughly, so that a map looks like one.

/// A freeway: its name, its two directions, and points of it in the first direction (latitude, longitude).
pub struct Freeway {
    pub name: &'static str,
    pub directions: [&'static str; 2],
    points: &'static [(f64, f64)],
}

const NORTH: [&str; 2] = ["N", "S"];
const EAST: [&str; 2] = ["E", "W"];

const fn freeway(name: &'static str, directions: [&'static str; 2], points: &'static [(f64, f64)]) -> Freeway {
    Freeway { name, directions, points }
}

pub const FREEWAYS: [Freeway; 28] = [
    freeway("I405", NORTH, &[(33.929, -118.369), (34.031, -118.431), (34.076, -118.469), (34.262, -118.472)]),
    freeway("I5", NORTH, &[(33.914, -118.085), (34.018, -118.180), (34.100, -118.250), (34.240, -118.390)]),
    freeway("US101", NORTH, &[(34.056, -118.233), (34.110, -118.340), (34.155, -118.379), (34.175, -118.600)]),
    freeway("I10", EAST, &[(34.020, -118.480), (34.037, -118.300), (34.030, -118.220), (34.072, -117.950)]),
    freeway("I110", NORTH, &[(33.760, -118.283), (33.870, -118.285), (33.960, -118.280), (34.040, -118.270)]),
    freeway("SR60", EAST, &[(34.029, -118.215), (34.035, -118.100), (34.019, -117.960), (34.000, -117.840)]),
    freeway("I605", NORTH, &[(33.795, -118.090), (33.900, -118.104), (34.000, -118.060), (34.110, -117.990)]),
    freeway("I710", NORTH, &[(33.780, -118.208), (33.900, -118.186), (34.000, -118.170), (34.070, -118.167)]),
    freeway("SR91", EAST, &[(33.873, -118.280), (33.878, -118.150), (33.860, -118.000), (33.853, -117.850)]),
    freeway("I105", EAST, &[(33.930, -118.370), (33.928, -118.250), (33.913, -118.105)]),
    freeway("I210", EAST, &[(34.270, -118.350), (34.200, -118.220), (34.150, -118.150), (34.130, -117.900)]),
    freeway("SR134", EAST, &[(34.152, -118.360), (34.156, -118.260), (34.142, -118.160)]),
    freeway("SR118", EAST, &[(34.270, -118.700), (34.275, -118.550), (34.265, -118.430)]),
    freeway("SR14", NORTH, &[(34.330, -118.500), (34.400, -118.430), (34.480, -118.270), (34.560, -118.130)]),
    freeway("SR57", NORTH, &[(33.790, -117.880), (33.900, -117.880), (34.030, -117.810), (34.110, -117.790)]),
    freeway("SR55", NORTH, &[(33.650, -117.910), (33.720, -117.840), (33.850, -117.830)]),
    freeway("SR22", EAST, &[(33.775, -118.090), (33.770, -117.960), (33.778, -117.840)]),
    freeway("I15", NORTH, &[(33.880, -117.540), (34.010, -117.550), (34.140, -117.500), (34.230, -117.420)]),
    freeway("SR73", NORTH, &[(33.560, -117.670), (33.610, -117.800), (33.680, -117.890)]),
    freeway("I215", NORTH, &[(33.920, -117.290), (34.010, -117.330), (34.110, -117.300), (34.200, -117.360)]),
    freeway("SR71", NORTH, &[(33.880, -117.640), (33.980, -117.700), (34.060, -117.780)]),
    freeway("SR2", NORTH, &[(34.095, -118.245), (34.150, -118.230), (34.205, -118.220)]),
    freeway("SR170", NORTH, &[(34.155, -118.379), (34.190, -118.400), (34.235, -118.415)]),
    freeway("SR23", NORTH, &[(34.180, -118.870), (34.230, -118.850), (34.280, -118.790)]),
    freeway("SR126", EAST, &[(34.280, -119.150), (34.355, -119.050), (34.400, -118.920)]),
    freeway("SR241", NORTH, &[(33.640, -117.600), (33.720, -117.720), (33.860, -117.710)]),
    freeway("SR133", NORTH, &[(33.600, -117.760), (33.680, -117.750), (33.730, -117.730)]),
    freeway("SR30", EAST, &[(34.130, -117.300), (34.110, -117.190), (34.060, -117.180)]),
];

const KM_PER_DEGREE: f64 = 111.2;
/// The middle of a carriageway is so far to the right of the freeway's line, km.
const TO_THE_RIGHT_KM: f64 = 0.02;

impl Freeway {
    /// The point so many km along the line, which goes straight on behind its end, seen by whoever drives in the
    /// first direction or in the other one: (latitude, longitude).
    pub fn at(&self, along_km: f64, backward: bool) -> (f64, f64) {
        let mut left_km = along_km;
        let legs = self.points.windows(2);
        let last = legs.len() - 1;
        for (i, leg) in legs.enumerate() {
            let (from, to) = (leg[0], leg[1]);
            let east_km = (to.1 - from.1) * KM_PER_DEGREE * from.0.to_radians().cos();
            let north_km = (to.0 - from.0) * KM_PER_DEGREE;
            let length_km = east_km.hypot(north_km);
            if left_km <= length_km || i == last {
                let share = left_km / length_km;
                let right = if backward { -TO_THE_RIGHT_KM } else { TO_THE_RIGHT_KM } / length_km;
                let latitude = from.0 + (share * north_km - right * east_km) / KM_PER_DEGREE;
                let longitude =
                    from.1 + (share * east_km + right * north_km) / (KM_PER_DEGREE * from.0.to_radians().cos());
                return (latitude, longitude);
            }
            left_km -= length_km;
        }
        self.points[0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_lie_along_the_line() {
        for road in &FREEWAYS {
            let (mut before, mut length) = (road.at(0.0, false), 0.0_f64);
            for step in 1..=80 {
                let at = road.at(f64::from(step) * 0.5, false);
                let moved = ((at.0 - before.0) * KM_PER_DEGREE)
                    .hypot((at.1 - before.1) * KM_PER_DEGREE * at.0.to_radians().cos());
                assert!((0.4..0.56).contains(&moved), "{} at {step}: {moved}", road.name);
                length += moved;
                before = at;
            }
            assert!((length - 40.0).abs() < 0.5, "{}: {length}", road.name);
            assert!((33.0..35.5).contains(&before.0) && (-119.5..-116.5).contains(&before.1), "{}", road.name);
        }
    }

    #[test]
    fn carriageways_keep_right() {
        let (there, back) = (FREEWAYS[4].at(5.0, false), FREEWAYS[4].at(5.0, true));
        assert!(there.1 > back.1, "northbound is east of southbound");
    }
}
