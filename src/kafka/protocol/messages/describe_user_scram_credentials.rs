//! DescribeUserScramCredentials: by which mechanisms of SCRAM users may log in.

use crate::kafka::protocol::error_code::ErrorCode;
use crate::kafka::protocol::schema::{Array, message};

message! {
    /// Asks for what users log in with.
    pub struct DescribeUserScramCredentialsRequest<'a> {
        /// All users when it is null or empty.
        users: Option<Array<UserName<'a>>>, 0+;
    }

    /// A user.
    pub struct UserName<'a> {
        name: &'a str, 0+;
    }

    /// The credentials of each user.
    pub struct DescribeUserScramCredentialsResponse<'a> {
        throttle_time_ms: i32, 0+;
        error_code: ErrorCode, 0+;
        error_message: Option<&'a str>, 0+;
        results: Array<DescribeUserScramCredentialsResult<'a>>, 0+;
    }

    /// The credentials of a user.
    pub struct DescribeUserScramCredentialsResult<'a> {
        user: &'a str, 0+;
        error_code: ErrorCode, 0+;
        error_message: Option<&'a str>, 0+;
        credential_infos: Array<CredentialInfo>, 0+;
    }

    /// A credential, without what is secret about it.
    pub struct CredentialInfo {
        /// 1 for SCRAM-SHA-256, 2 for SCRAM-SHA-512.
        mechanism: i8, 0+;
        iterations: i32, 0+;
    }
}
