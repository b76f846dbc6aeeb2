//! `keadm manifest`

use serde_json::{Value, json};

use super::JsonOutput;
use super::config::{apply_settings, refused};
use super::init;
use crate::context::Context;
use crate::errors::{CommandError, Kind};
use crate::objects;

/// Print what `keadm init` applies to Kubernetes, as YAML
///
/// The CA, the certificate and the token are not in it: cloudcore makes them when it starts.
#[derive(clap::Args, Debug)]
pub struct ManifestArgs {
    /// Addresses that edges dial; they go into cloudcore's certificate
    #[arg(long, value_name = "ADDRESSES", value_delimiter = ',')]
    advertise_address: Vec<String>,
    /// A setting of cloudcore.yaml, in Helm's syntax
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Leave out the definitions of KubeEdge's kinds
    #[arg(long)]
    skip_crds: bool,
    /// A list in JSON, instead of YAML
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    output: Option<JsonOutput>,
}

/// Prints.
///
/// # Errors
/// When a setting cannot be used.
pub fn manifest(args: &ManifestArgs, cx: &Context) -> Result<(), CommandError> {
    let mut document = init::defaults(cx, &args.advertise_address)?;
    apply_settings(&mut document, &init::settings(&args.set))?;
    document.config().map_err(|e| refused(&e))?;
    let yaml = document.to_yaml().map_err(|e| refused(&e))?;
    let mut all = vec![objects::namespace()];
    if !args.skip_crds {
        all.extend(objects::crds());
    }
    all.extend(objects::rbac());
    all.push(objects::config_map(&yaml));
    if args.output.is_some() {
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": all });
        return Ok(cx.printer.json(&list)?);
    }
    for object in all {
        cx.printer.data(format!("---\n{}", yaml_of(&object)?.trim_end()))?;
    }
    Ok(())
}

fn yaml_of(object: &Value) -> Result<String, CommandError> {
    api::config::yaml::write(object).map_err(|e| {
        CommandError::new(Kind::Failed, "an object cannot be written as YAML").because(e)
    })
}

#[cfg(test)]
mod tests {
    use crate::host::fake::Fake;
    use crate::testing::keadm;

    #[test]
    fn the_manifest_is_what_init_applies() {
        let text =
            keadm("keadm manifest --skip-crds --advertise-address 10.0.4.2", &Fake::default());
        insta::assert_snapshot!(text);
        let all = keadm("keadm manifest", &Fake::default());
        assert_eq!(all.matches("kind: CustomResourceDefinition").count(), api::crd::all().len());
        let json = keadm("keadm manifest -o json", &Fake::default());
        let crds = json.matches(r#""kind": "CustomResourceDefinition""#).count();
        assert_eq!(crds, api::crd::all().len());
        assert!(json.contains(r#""kind": "List""#), "{json}");
    }

    #[test]
    fn a_setting_that_does_not_exist_is_refused() {
        insta::assert_snapshot!(keadm(
            "keadm manifest --set modules.cloudhub.nodes=7",
            &Fake::default()
        ));
    }
}
