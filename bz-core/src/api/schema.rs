//! Schemas of what is one text or number in JSON. All other schemas are derived where their types are.

use std::borrow::Cow;

use utoipa::openapi::schema::{KnownFormat, Object, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::api::Bytes;
use crate::api::api_key::cidr::Cidr;
use crate::api::policy::Enabled;
use crate::id::{
    ApiKeyId, BootId, ConnectionId, EnvironmentId, EventId, GrantId, LoginId, OrganizationId, PolicyId, ShellId,
    SpaceId, TargetId, UserId,
};
use crate::key::PublicKey;
use crate::target::{TargetUser, UserRule};
use crate::time::UnixTime;

macro_rules! written {
    ($($name:ident: $schema:expr;)*) => {$(
        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                RefOr::T(Schema::Object($schema))
            }
        }

        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                Cow::Borrowed(stringify!($name))
            }
        }
    )*};
}

written! {
    OrganizationId: id("An organization.");
    UserId: id("A person in this organization, or another subject of it.");
    EnvironmentId: id("An environment.");
    TargetId: id("A target of any kind.");
    ConnectionId: id("A connection.");
    GrantId: id("A grant.");
    PolicyId: id("A policy.");
    BootId: id("One start of an agent.");
    ShellId: id("A shell kept on a target.");
    ApiKeyId: id("An API key or registration key.");
    EventId: id("One row of a log.");
    LoginId: id("One login of a person.");
    SpaceId: id("A set of connections.");
    Bytes: text("Bytes, as base64url without padding.", "^[A-Za-z0-9_-]*$");
    PublicKey: text("A P-256 public key: its uncompressed point in hexadecimal.", "^04[0-9a-fA-F]{128}$");
    TargetUser: text("A user of a target.", "^[A-Za-z_][A-Za-z0-9_.-]{0,31}$");
    UserRule: text(
        "A user of a target, or `{username}` for the part of the person's address before the @.",
        "^([A-Za-z_][A-Za-z0-9_.-]{0,31}|\\{username\\})$"
    );
    Enabled: ObjectBuilder::new().schema_type(Type::Boolean).default(Some(true.into())).build();
    Cidr: text(
        "A range of addresses, such as 192.0.2.0/24 or 2001:db8::/32, or one address.",
        "^[0-9a-fA-F:.]+(/[0-9]{1,3})?$"
    );
    UnixTime: ObjectBuilder::new()
        .schema_type(Type::Integer)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
        .minimum(Some(0.0))
        .description(Some("Milliseconds since 1970-01-01T00:00:00Z."))
        .build();
}

fn id(about: &str) -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid)))
        .description(Some(about))
        .build()
}

fn text(about: &str, pattern: &str) -> Object {
    ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern)).description(Some(about)).build()
}
