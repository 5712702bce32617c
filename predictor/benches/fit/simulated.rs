//! Rush hours and noise, where there is no data.

use predictor::forecast::series::Series;

/// The end of a window on a Wednesday, in windows since the epoch.
pub const START: i64 = 1_337_782_200 / 300 + 1;

/// So many segments, each with a speed in every window.
pub fn simulated(segments: usize, windows: usize) -> Series {
    let mut state = 1_u64;
    let mut chance = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        #[expect(clippy::cast_precision_loss, reason = "24 bits")]
        let unit = (state >> 40) as f32 / (1 << 24) as f32;
        unit
    };
    #[expect(clippy::cast_precision_loss, reason = "small")]
    let mut speeds = |segment: usize| -> Vec<f32> {
        let mut jam = 0.0_f32;
        let of = |window: usize| {
            let hour = (window % 288) as f32 / 12.0;
            let rush = |at: f32| (-((hour - at - (segment % 20) as f32 * 0.05) / 1.2).powi(2)).exp();
            jam = 0.9 * jam + 6.0 * chance() * (rush(8.0) + rush(17.0));
            (105.0 - jam.min(85.0) - 6.0 * chance()).max(5.0)
        };
        (0..windows).map(of).collect()
    };
    Series::new(START, (0..segments).map(|s| (format!("SEG_I405_N_{s:04}").into(), speeds(s))).collect())
}
