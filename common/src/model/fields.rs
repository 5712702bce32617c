//! What the dialects call their fields, and reading those fields out of JSON in one pass.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::event::Invalid;

/// An object that has fields of interest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Top,
    Location,
    LocationCoordinates,
    Coordinates,
    TrafficData,
    Metadata,
}

macro_rules! slots {
    ($($slot:ident = $place:ident $name:literal $path:literal;)*) => {
        /// A field that is read, by its place and name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Slot { $($slot),* }

        const SLOTS: usize = [$(Slot::$slot),*].len();

        impl Slot {
            fn find(place: Place, name: &str) -> Option<Self> {
                match (place, name) {
                    $((Place::$place, $name) => Some(Self::$slot),)*
                    _ => None,
                }
            }

            /// Where the field is, for people.
            pub(super) const fn path(self) -> &'static str {
                match self { $(Self::$slot => $path),* }
            }
        }
    };
}

slots! {
    EventId = Top "event_id" "event_id";
    SegmentId = Top "segment_id" "segment_id";
    SensorId = Top "sensor_id" "sensor_id";
    Timestamp = Top "timestamp" "timestamp";
    Speed = Top "speed" "speed";
    SpeedKmh = Top "speed_kmh" "speed_kmh";
    SpeedMph = Top "speed_mph" "speed_mph";
    Volume = Top "volume" "volume";
    VolumeVph = Top "volume_vph" "volume_vph";
    VolumeVehiclesPerHour = Top "volume_vehicles_per_hour" "volume_vehicles_per_hour";
    Occupancy = Top "occupancy" "occupancy";
    OccupancyPercent = Top "occupancy_percent" "occupancy_percent";
    OccupancyPercentage = Top "occupancy_percentage" "occupancy_percentage";
    Latitude = Top "latitude" "latitude";
    Longitude = Top "longitude" "longitude";
    Source = Top "source" "source";
    QualityScore = Top "quality_score" "quality_score";
    Coordinates = Top "coordinates" "coordinates";
    CoordinatesLatitude = Coordinates "latitude" "coordinates.latitude";
    CoordinatesLongitude = Coordinates "longitude" "coordinates.longitude";
    Location = Top "location" "location";
    LocationSegmentId = Location "segment_id" "location.segment_id";
    LocationSensorId = Location "sensor_id" "location.sensor_id";
    LocationLatitude = Location "latitude" "location.latitude";
    LocationLongitude = Location "longitude" "location.longitude";
    LocationCoordinates = Location "coordinates" "location.coordinates";
    LocationCoordinatesLatitude = LocationCoordinates "latitude" "location.coordinates.latitude";
    LocationCoordinatesLongitude = LocationCoordinates "longitude" "location.coordinates.longitude";
    TrafficData = Top "traffic_data" "traffic_data";
    TrafficSpeedKmh = TrafficData "speed_kmh" "traffic_data.speed_kmh";
    TrafficSpeedMph = TrafficData "speed_mph" "traffic_data.speed_mph";
    TrafficSpeed = TrafficData "speed" "traffic_data.speed";
    TrafficVolume = TrafficData "volume" "traffic_data.volume";
    TrafficVolumeVph = TrafficData "volume_vph" "traffic_data.volume_vph";
    TrafficVolumeVehiclesPerHour = TrafficData "volume_vehicles_per_hour" "traffic_data.volume_vehicles_per_hour";
    TrafficOccupancy = TrafficData "occupancy" "traffic_data.occupancy";
    TrafficOccupancyPercent = TrafficData "occupancy_percent" "traffic_data.occupancy_percent";
    TrafficOccupancyPercentage = TrafficData "occupancy_percentage" "traffic_data.occupancy_percentage";
    Metadata = Top "metadata" "metadata";
    MetadataSensorId = Metadata "sensor_id" "metadata.sensor_id";
}

impl Slot {
    /// The place that an object in this field is.
    fn opens(self) -> Option<Place> {
        match self {
            Self::Location => Some(Place::Location),
            Self::LocationCoordinates => Some(Place::LocationCoordinates),
            Self::Coordinates => Some(Place::Coordinates),
            Self::TrafficData => Some(Place::TrafficData),
            Self::Metadata => Some(Place::Metadata),
            _ => None,
        }
    }
}

/// A field's value.
#[derive(Debug, Clone)]
pub(super) enum Scalar<'a> {
    Absent,
    Null,
    Bool,
    Integer(i64),
    Number(f64),
    Text(Cow<'a, str>),
    Array,
    Object,
}

impl Scalar<'_> {
    /// What it is, for people.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Absent => "nothing",
            Self::Null => "null",
            Self::Bool => "a boolean",
            Self::Integer(_) | Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::Array => "an array",
            Self::Object => "an object",
        }
    }
}

/// The fields of interest of one payload.
pub(super) struct Fields<'a> {
    values: [Scalar<'a>; SLOTS],
    /// Found wrong while reading; reading stops there.
    problem: Option<Invalid>,
}

impl<'a> Fields<'a> {
    pub(super) fn read(text: &'a str) -> Result<Self, Invalid> {
        if text.is_empty() {
            return Err(Invalid::new("payload", "empty"));
        }
        let mut fields = Self { values: [const { Scalar::Absent }; SLOTS], problem: None };
        let mut json = serde_json::Deserializer::from_str(text);
        let read = Object { fields: &mut fields, place: Place::Top }.deserialize(&mut json).and_then(|()| json.end());
        match (fields.problem.take(), read) {
            (Some(problem), _) => Err(problem),
            (None, Err(error)) => Err(Invalid::new("payload", format!("no JSON object: {error}"))),
            (None, Ok(())) => Ok(fields),
        }
    }

    pub(super) fn get(&self, slot: Slot) -> &Scalar<'a> {
        &self.values[slot as usize]
    }
}

/// Reads an object at a place into the fields.
struct Object<'f, 'a> {
    fields: &'f mut Fields<'a>,
    place: Place,
}

impl<'de> DeserializeSeed<'de> for Object<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        let Self { fields, place } = self;
        while let Some(slot) = map.next_key_seed(Name(place))? {
            let Some(slot) = slot else {
                map.next_value_seed(Value { into: None })?;
                continue;
            };
            let fail = |fields: &mut Fields<'de>, problem: String| {
                fields.problem = Some(Invalid::new(slot.path(), problem));
                M::Error::custom("not valid")
            };
            if !matches!(fields.values[slot as usize], Scalar::Absent) {
                return Err(fail(fields, "there twice".to_owned()));
            }
            let into = slot.opens().map(|place| Object { fields: &mut *fields, place });
            let value = map.next_value_seed(Value { into })?;
            if slot.opens().is_some() && !matches!(value, Scalar::Object | Scalar::Null) {
                return Err(fail(fields, format!("{} is not an object", value.kind())));
            }
            fields.values[slot as usize] = value;
        }
        Ok(())
    }
}

/// Finds a key's slot.
struct Name(Place);

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Option<Slot>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Option<Slot>, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for Name {
    type Value = Option<Slot>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Option<Slot>, E> {
        Ok(Slot::find(self.0, name))
    }
}

/// Reads any value: an object into the fields where it belongs there. What else is nested in it is
/// checked and dropped, down to `serde_json`'s limit of depth.
struct Value<'f, 'a> {
    into: Option<Object<'f, 'a>>,
}

impl<'de> DeserializeSeed<'de> for Value<'_, 'de> {
    type Value = Scalar<'de>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Scalar<'de>, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_, 'de> {
    type Value = Scalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Bool)
    }

    fn visit_i64<E>(self, number: i64) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Integer(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Scalar<'de>, E> {
        #[expect(clippy::cast_precision_loss, reason = "far outside every range")]
        Ok(i64::try_from(number).map_or(Scalar::Number(number as f64), Scalar::Integer))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Scalar<'de>, E> {
        Ok(Scalar::Text(Cow::Borrowed(text)))
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut items: S) -> Result<Scalar<'de>, S::Error> {
        while items.next_element_seed(Value { into: None })?.is_some() {}
        Ok(Scalar::Array)
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Scalar<'de>, M::Error> {
        if let Some(object) = self.into {
            object.visit_map(map)?;
            return Ok(Scalar::Object);
        }
        while map.next_key_seed(AnyName)?.is_some() {
            map.next_value_seed(Value { into: None })?;
        }
        Ok(Scalar::Object)
    }
}

/// Reads a key that nobody looks at.
struct AnyName;

impl<'de> DeserializeSeed<'de> for AnyName {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for AnyName {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
}
