//! What an administrator sets up in AWS, word for word as `countersign target init-iam` prints it.

use serde_json::{Value, json};

use crate::support::aws::{Caller, Corner, policy};

/// What the lease role may do by itself: far more than any action allows, but no canary call.
fn wide_rights() -> Value {
    let services = ["s3:*", "dynamodb:*", "secretsmanager:*", "iam:*", "sts:*"];
    json!({"Effect": "Allow", "Action": services, "Resource": "*"})
}

/// Sets up guard, role, broker and writer. `there` is the account of guard and role.
pub async fn set_up(corner: &Corner, there: &Caller, printed: &Value) {
    let (guard, role) = (&printed["guard"], &printed["lease_role"]);
    let inline = guard["inline_policy_name"].as_str();
    if inline.is_none() {
        let document = guard["first_version"].to_string();
        let fields = [
            ("PolicyName", name(guard)),
            ("Path", "/countersign/"),
            ("PolicyDocument", &document),
        ];
        there.iam("CreatePolicy", &fields).await.fine();
    }
    make_role(there, role, role["permissions_boundary"].as_str()).await;
    let statements = role["must_also_allow"]["Statement"].as_array().unwrap();
    let mut rights = statements.clone();
    rights.push(wide_rights());
    put(there, name(role), "own", &policy(&rights.into())).await;
    if let Some(policy_name) = inline {
        put(there, name(role), policy_name, &guard["first_version"]).await;
    }
    corner.let_broker(&printed["broker"]["policy"]).await;
    if let writer @ Value::Object(_) = &printed["guard_writer"] {
        make_role(there, writer, None).await;
        put(there, name(writer), "guard", &writer["policy"]).await;
    }
}

/// The name at the end of an ARN.
fn name(printed: &Value) -> &str {
    let arn = printed["arn"].as_str().unwrap();
    arn.rsplit('/').next().unwrap()
}

async fn make_role(there: &Caller, role: &Value, boundary: Option<&str>) {
    let trust = role["trust_policy"].to_string();
    let (_, path) = role["arn"].as_str().unwrap().split_once(":role").unwrap();
    let mut fields = vec![
        ("RoleName", name(role)),
        ("Path", path.strip_suffix(name(role)).unwrap()),
        ("AssumeRolePolicyDocument", &trust),
    ];
    fields.extend(boundary.map(|arn| ("PermissionsBoundary", arn)));
    there.iam("CreateRole", &fields).await.fine();
}

async fn put(there: &Caller, role: &str, name: &str, document: &Value) {
    let document = document.to_string();
    let fields = [
        ("RoleName", role),
        ("PolicyName", name),
        ("PolicyDocument", &document),
    ];
    there.iam("PutRolePolicy", &fields).await.fine();
}
