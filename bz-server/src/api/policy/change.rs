//! The body of a PATCH of a policy: some fields of the whole, the others stay.

use std::borrow::Cow;
use std::marker::PhantomData;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::error::ApiError;

/// Some fields of a `T`. A field that is null becomes what it is when it is absent from a new one.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::api) struct Change<T> {
    fields: Map<String, Value>,
    of: PhantomData<fn() -> T>,
}

impl<'de, T> Deserialize<'de> for Change<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self { fields: Map::deserialize(deserializer)?, of: PhantomData })
    }
}

impl<T: DeserializeOwned> Change<T> {
    /// `old` with these fields in place of its own.
    ///
    /// # Errors
    /// [`ApiError::bad_request`] when that is no `T`.
    pub(super) fn over(self, old: Value) -> Result<T, ApiError> {
        let Value::Object(mut whole) = old else { return Err(ApiError::internal("a policy is no object")) };
        for (name, value) in self.fields {
            if value.is_null() {
                whole.remove(&name);
            } else {
                whole.insert(name, value);
            }
        }
        serde_json::from_value(Value::Object(whole))
            .map_err(|error| ApiError::bad_request(format!("the body: {error}")))
    }
}

impl<T: ToSchema> PartialSchema for Change<T> {
    fn schema() -> RefOr<Schema> {
        let mut schema = T::schema();
        if let RefOr::T(Schema::Object(object)) = &mut schema {
            object.required.clear();
            object.description =
                Some("What changes; what is absent stays, what is null becomes its default.".to_owned());
        }
        schema
    }
}

impl<T: ToSchema> ToSchema for Change<T> {
    fn name() -> Cow<'static, str> {
        Cow::Owned(format!("Change{}", T::name()))
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        T::schemas(schemas);
    }
}
