//! Manifests as large as those that are published for operators and whole applications: hundreds of
//! objects, and a definition that is too large for what client-side apply notes of it.
//! <https://kubernetes.io/docs/tasks/manage-kubernetes-objects/declarative-config/>

use std::fmt::Write as _;

use crate::support::Cluster;

const TEAMS: usize = 25;

/// An application: for each team what a chart typically has.
fn application(teams: usize) -> String {
    let mut out = String::from(
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {app.kubernetes.io/part-of: shop}}\n",
    );
    for i in 0..teams {
        let labels = format!(
            "labels: {{app.kubernetes.io/part-of: shop, app.kubernetes.io/name: team-{i}}}"
        );
        let meta = format!("metadata: {{name: team-{i}, namespace: shop, {labels}}}");
        let lines =
            "      a long line of a configuration file, as there are many of them\n".repeat(30);
        let _ = write!(out, "---
apiVersion: v1
kind: ServiceAccount
{meta}
automountServiceAccountToken: false
---
apiVersion: v1
kind: ConfigMap
{meta}
data:
  app.conf: |
{lines}---
apiVersion: v1
kind: Secret
{meta}
type: Opaque
data: {{password: c2VjcmV0}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
{meta}
rules:
- {{apiGroups: [''], resources: [configmaps, secrets], verbs: [get, list, watch]}}
- {{apiGroups: [apps], resources: [deployments, deployments/scale], verbs: ['*']}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
{meta}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: team-{i}}}
subjects: [{{kind: ServiceAccount, name: team-{i}, namespace: shop}}]
---
apiVersion: v1
kind: Service
{meta}
spec:
  selector: {{app.kubernetes.io/name: team-{i}}}
  ports: [{{name: http, port: 80, targetPort: http}}, {{name: metrics, port: 9090}}]
---
apiVersion: apps/v1
kind: Deployment
{meta}
spec:
  replicas: 0
  selector: {{matchLabels: {{app.kubernetes.io/name: team-{i}}}}}
  template:
    metadata: {{{labels}}}
    spec:
      serviceAccountName: team-{i}
      securityContext: {{runAsNonRoot: true, runAsUser: 1000}}
      containers:
      - name: main
        image: example.com/team-{i}:1.0
        args: [--config=/etc/app/app.conf, --port=8080]
        env:
        - {{name: POD, valueFrom: {{fieldRef: {{apiVersion: v1, fieldPath: metadata.name}}}}}}
        - {{name: PASSWORD, valueFrom: {{secretKeyRef: {{name: team-{i}, key: password}}}}}}
        ports: [{{name: http, containerPort: 8080}}, {{name: metrics, containerPort: 9090, protocol: TCP}}]
        resources: {{requests: {{cpu: 100m, memory: 128Mi}}, limits: {{memory: 1536Mi}}}}
        livenessProbe: {{httpGet: {{path: /healthz, port: http}}, periodSeconds: 20}}
        volumeMounts: [{{name: config, mountPath: /etc/app}}, {{name: tmp, mountPath: /tmp}}]
      volumes: [{{name: config, configMap: {{name: team-{i}}}}}, {{name: tmp, emptyDir: {{}}}}]
---
apiVersion: policy/v1
kind: PodDisruptionBudget
{meta}
spec: {{minAvailable: 50%, selector: {{matchLabels: {{app.kubernetes.io/name: team-{i}}}}}}}
");
    }
    out
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_of_hundreds_of_objects_is_applied_compared_pruned_and_deleted() {
    let c = Cluster::start().await;
    let all = application(TEAMS);
    let count = |text: &str, what: &str| text.lines().filter(|l| l.ends_with(what)).count();
    let objects = 1 + 8 * TEAMS;
    assert_eq!(count(&c.apply(&all).await, " created"), objects);
    // kubectl sends the selectors of budgets each time, as they are replaced whole (so it does to a
    // kube-apiserver 1.33), and nothing changes by that.
    let version = ["-n", "shop", "get", "pdb", "team-1", "-o", "jsonpath={.metadata.generation}"];
    let before = c.ok(&version).await;
    let again = c.apply(&all).await;
    assert_eq!(count(&again, " unchanged"), objects - TEAMS);
    let budgets = again.lines().filter(|l| l.starts_with("poddisruptionbudget.policy/"));
    assert_eq!(budgets.filter(|l| l.ends_with(" configured")).count(), TEAMS);
    assert_eq!(c.ok(&version).await, before);
    let said = c.kubectl_in(&["diff", "-f", "-"], &all).await;
    assert!(said.ok && said.out.is_empty(), "a difference: {}{}", said.out, said.err);
    let changed = all.replace("cpu: 100m", "cpu: 200m");
    let said = c.kubectl_in(&["diff", "-f", "-"], &changed).await;
    assert!(!said.ok, "{}", said.err);
    assert_eq!(count(&said.out, "+            cpu: 200m"), TEAMS, "{}", said.out);

    // What is not in the manifest any more goes, and nothing else.
    c.ok(&["-n", "shop", "create", "configmap", "kept"]).await;
    let fewer = application(TEAMS - 10);
    let label = "app.kubernetes.io/part-of=shop";
    // Without a list of kinds, kubectl wants some that are not served: ReplicationController and Ingress.
    let kinds = [
        "core/v1/ServiceAccount",
        "core/v1/ConfigMap",
        "core/v1/Secret",
        "core/v1/Service",
        "apps/v1/Deployment",
        "policy/v1/PodDisruptionBudget",
        "rbac.authorization.k8s.io/v1/Role",
        "rbac.authorization.k8s.io/v1/RoleBinding",
    ];
    let kinds = kinds.map(|k| format!("--prune-allowlist={k}"));
    let mut prune = vec!["apply", "--prune", "-l", label, "-f", "-"];
    prune.extend(kinds.iter().map(String::as_str));
    let said = c.kubectl_in(&prune, &fewer).await;
    assert!(said.ok, "{}", said.err);
    assert_eq!(count(&said.out, " pruned"), 10 * 8, "{}", said.out);
    let names = c.ok(&["-n", "shop", "get", "configmaps", "-o", "name"]).await;
    assert_eq!(names.lines().count(), TEAMS - 10 + 2, "{names}");
    assert!(names.contains("configmap/kept\n"));

    // Another way of the same: nothing changes but who owns what.
    let server_side = ["apply", "--server-side", "-f", "-"];
    let said = c.kubectl_in(&server_side, &fewer).await;
    assert!(said.ok, "{}", said.err);
    assert_eq!(count(&said.out, " serverside-applied"), 1 + 8 * (TEAMS - 10));
    let said = c.kubectl_in(&["diff", "--server-side", "-f", "-"], &fewer).await;
    assert!(said.ok && said.out.is_empty(), "a difference: {}{}", said.out, said.err);
    let changed = fewer.replace("cpu: 100m", "cpu: 200m");
    let said = c.kubectl_in(&server_side, &changed).await;
    assert!(said.ok, "{}", said.err);
    let cpu = "jsonpath={.spec.template.spec.containers[0].resources.requests.cpu}";
    assert_eq!(c.ok(&["-n", "shop", "get", "deployment", "team-7", "-o", cpu]).await, "200m");

    let said =
        c.kubectl_in(&["delete", "--ignore-not-found", "--timeout=40s", "-f", "-"], &fewer).await;
    assert!(said.ok, "{}", said.err);
    assert!(c.fails(&["get", "ns", "shop"], "").await.contains("NotFound"));
}

/// A definition whose schema has some four hundred kilobytes, most of them descriptions.
fn definition() -> String {
    let help =
        "What this field means, told at the length that generated definitions tell it. ".repeat(8);
    let mut fields = String::new();
    for i in 0..300 {
        let _ = write!(
            fields,
            "              field{i}:
                type: object
                description: \"{help}\"
                x-kubernetes-validations:
                - {{rule: self.minimum <= self.maximum, message: nothing is between these}}
                properties:
                  minimum: {{type: integer, description: \"{help}\", default: {i}}}
                  maximum: {{type: integer, minimum: {i}}}
                  tags:
                    type: array
                    x-kubernetes-list-type: map
                    x-kubernetes-list-map-keys: [key]
                    items: {{type: object, required: [key], properties: {{key: {{type: string}}, value: {{x-kubernetes-int-or-string: true}}}}}}
"
        );
    }
    format!(
        "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {{name: plans.example.com}}
spec:
  group: example.com
  scope: Namespaced
  names: {{plural: plans, singular: plan, kind: Plan}}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {{status: {{}}}}
    additionalPrinterColumns: [{{name: Max, type: integer, jsonPath: .spec.field7.maximum}}]
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties:
{fields}"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_definition_of_several_hundred_kilobytes_is_applied_by_the_server_and_served() {
    let c = Cluster::start().await;
    let definition = definition();
    assert!(definition.len() > 400 << 10, "{}", definition.len());
    // kubectl notes what it applied in an annotation, which Kubernetes limits to 256 KiB in all.
    let e = c.fails(&["apply", "-f", "-"], &definition).await;
    assert!(e.contains("metadata.annotations: Too long: may not be more than 262144 bytes"), "{e}");
    let server_side = ["apply", "--server-side", "-f", "-"];
    for _ in 0..2 {
        let said = c.kubectl_in(&server_side, &definition).await;
        assert!(said.ok, "{}", said.err);
    }
    let diff = c.kubectl_in(&["diff", "--server-side", "-f", "-"], &definition).await;
    assert!(diff.ok && diff.out.is_empty(), "a difference: {:.2000}{}", diff.out, diff.err);
    c.ok(&["wait", "--for=condition=Established", "crd/plans.example.com", "--timeout=20s"]).await;
    let plan = |max: u32| {
        format!(
            "apiVersion: example.com/v1\nkind: Plan\nmetadata: {{name: p}}\nspec: {{field7: {{maximum: {max}, tags: [{{key: a, value: 1}}]}}}}\n"
        )
    };
    assert_eq!(c.apply(&plan(9)).await, "plan.example.com/p created\n");
    assert_eq!(c.ok(&["get", "plan", "p", "-o", "jsonpath={.spec.field7.minimum}"]).await, "7");
    let table = c.ok(&["get", "plans"]).await;
    assert_eq!(table.split_whitespace().collect::<Vec<_>>(), ["NAME", "MAX", "p", "9"]);
    let said = c.kubectl_in(&["diff", "-f", "-"], &plan(9)).await;
    assert!(said.ok, "a difference: {}{}", said.out, said.err);
    let rule =
        ["patch", "plan", "p", "--type=merge", "-p", "{\"spec\":{\"field7\":{\"minimum\":10}}}"];
    let e = c.fails(&rule, "").await;
    assert!(e.contains("spec.field7: Invalid value: \"object\": nothing is between these"), "{e}");
    let e = c.fails(&["apply", "-f", "-"], &plan(3)).await;
    assert!(e.contains("spec.field7.maximum in body should be greater than or equal to 7"), "{e}");
    let text = c.ok(&["explain", "plan.spec.field7.minimum"]).await;
    assert!(text.contains("FIELD: minimum <integer>"), "{text}");
    let said = c.kubectl_in(&["delete", "--timeout=30s", "-f", "-"], &definition).await;
    assert!(said.ok, "{}", said.err);
}
