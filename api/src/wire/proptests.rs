//! Whatever can be said survives the wire.

use proptest::option;
use proptest::prelude::*;

use super::downstream::*;
use super::upstream::*;
use super::{DecodeError, Downstream, Message, Upstream, json};
use crate::names::{Kind, MessageId, Namespace, NodeName, ObjectKey, ResourceVersion, Uid};
use crate::raw::RawJson;

fn node() -> NodeName {
    "edge-1".parse().unwrap()
}

fn id() -> impl Strategy<Value = MessageId> {
    "[ -~]{1,40}".prop_map(|text| text.parse().unwrap())
}

fn namespace() -> impl Strategy<Value = Namespace> {
    // `null` is what the wire says for "none".
    "[a-z]([a-z0-9-]{0,10}[a-z0-9])?"
        .prop_filter("no namespace", |text| text != "null")
        .prop_map(|text| text.parse().unwrap())
}

fn node_name() -> impl Strategy<Value = NodeName> {
    "[a-z]([a-z0-9-]{0,10}[a-z0-9])?(\\.[a-z0-9]{1,4})?".prop_map(|text| text.parse().unwrap())
}

fn name() -> impl Strategy<Value = Box<str>> {
    "[^/\\p{Cc}]{1,20}".prop_map(Into::into)
}

fn uid() -> impl Strategy<Value = Uid> {
    "[a-z0-9-]{1,36}".prop_map(|text| text.parse().unwrap())
}

fn key(kind: impl Strategy<Value = Kind>) -> impl Strategy<Value = ObjectKey> {
    (option::of(namespace()), kind, name()).prop_map(|(namespace, kind, name)| ObjectKey {
        namespace,
        kind,
        name,
    })
}

fn raw() -> impl Strategy<Value = RawJson> {
    prop_oneof![
        Just(RawJson::null()),
        ".*".prop_map(|text| RawJson::string(&text)),
        any::<i64>().prop_map(|number| RawJson::of(&number).unwrap()),
        (".*", ".*").prop_map(|(key, value)| {
            RawJson::of(&std::collections::BTreeMap::from([(key, value)])).unwrap()
        }),
    ]
}

fn text() -> impl Strategy<Value = Box<str>> {
    ".{0,30}".prop_map(Into::into)
}

fn request() -> impl Strategy<Value = Request> {
    let queried = prop_oneof![
        Just(Kind::Node),
        Just(Kind::ConfigMap),
        Just(Kind::Secret),
        Just(Kind::PersistentVolume),
        Just(Kind::PersistentVolumeClaim),
        Just(Kind::VolumeAttachment),
        Just(Kind::Lease),
        Just(Kind::CertificateSigningRequest)
    ];
    let pod = || {
        (namespace(), name())
            .prop_map(|(namespace, name)| ObjectKey::new(namespace, Kind::Pod, &name))
    };
    let options =
        |uid: &Uid| RawJson::parse(format!("{{\"preconditions\":{{\"uid\":\"{uid}\"}}}}")).unwrap();
    prop_oneof![
        (node_name(), raw()).prop_map(|(name, node)| Request::RegisterNode { name, node }),
        (node_name(), ".*").prop_map(|(name, patch)| Request::PatchNode { name, patch }),
        (node_name(), raw()).prop_map(|(name, node)| Request::UpdateNode { name, node }),
        key(queried).prop_map(Request::Query),
        (pod(), raw()).prop_map(|(key, pod)| Request::CreatePod { key, pod }),
        (pod(), ".*").prop_map(|(key, patch)| Request::PatchPod { key, patch }),
        (pod(), uid()).prop_map(move |(key, uid)| Request::DeletePod {
            key,
            options: options(&uid),
            uid: Some(uid)
        }),
        (node_name(), raw()).prop_map(|(name, lease)| Request::CreateLease { name, lease }),
        (node_name(), raw()).prop_map(|(name, lease)| Request::UpdateLease { name, lease }),
        (namespace(), name(), raw()).prop_map(|(namespace, account, request)| {
            Request::ServiceAccountToken { namespace, account, request }
        }),
        (key(Just(Kind::CertificateSigningRequest)), raw())
            .prop_map(|(key, csr)| Request::CreateCsr { key, csr }),
        Just(Request::ApiServerCa),
        (node_name(), raw())
            .prop_map(|(name, content)| Request::LegacyNodeStatus { name, content }),
        (namespace(), option::of(name()), raw()).prop_map(|(namespace, name, content)| {
            Request::LegacyPodStatus { namespace, name, content }
        }),
    ]
}

fn upstream() -> impl Strategy<Value = Upstream> {
    let event_op = prop_oneof![Just(EventOp::Insert), Just(EventOp::Update), Just(EventOp::Patch)];
    let task_op = prop_oneof![Just("UpdateNodeActionStatus"), Just("upgrade"), Just("prepull")];
    let volume = || {
        ("[a-z0-9]{1,8}", "[a-z0-9-]{1,8}")
            .prop_map(|(ns, id)| format!("{ns}/volume/x{id}").into_boxed_str())
    };
    prop_oneof![
        Just(Upstream::Keepalive),
        (id(), text(), text(), text()).prop_map(|(of, source, group, resource)| {
            // An ack of what looks like a volume call would be the answer to one.
            let resource = format!("default/pod/{resource}").into();
            Upstream::Ack(Ack { of, source, group, resource })
        }),
        (id(), name(), ".*").prop_map(|(of, name, why)| {
            Upstream::Refused { of, resource: format!("default/pod/{name}").into(), why }
        }),
        request().prop_map(Upstream::Request),
        (key(Just(Kind::Event)), event_op, raw())
            .prop_map(|(key, op, content)| Upstream::Event(EventReport { key, op, content })),
        (namespace(), name(), raw()).prop_map(|(namespace, name, content)| {
            Upstream::DeviceTwin { namespace, name, content }
        }),
        (namespace(), name(), raw()).prop_map(|(namespace, name, content)| {
            Upstream::DeviceState { namespace, name, content }
        }),
        raw().prop_map(Upstream::MembershipDetail),
        raw().prop_map(Upstream::Application),
        raw().prop_map(Upstream::WatchSync),
        (any::<bool>(), text(), any::<bool>(), option::of(id()), raw()).prop_map(
            |(mqtt, resource, failed, parent, content)| Upstream::Upload {
                source: if mqtt { Bus::EventBus } else { Bus::ServiceBus },
                resource,
                failed: failed && !mqtt,
                parent,
                content,
            }
        ),
        (text(), task_op, raw()).prop_map(|(head, operation, content)| Upstream::TaskStatus {
            resource: format!("task/{head}/node/edge-1").into(),
            operation: operation.into(),
            content,
        }),
        (id(), volume(), any::<bool>(), raw()).prop_map(|(parent, resource, failed, content)| {
            Upstream::Volume { parent, resource, failed, content }
        }),
    ]
}

fn reply_body() -> impl Strategy<Value = ReplyBody> {
    let error = || prop_oneof![Just(ReplyError::Unknown), raw().prop_map(ReplyError::Status)];
    let plain = raw().prop_filter("not of another form", |raw| {
        matches!(ReplyBody::decode(raw.clone()), ReplyBody::Plain(_))
    });
    prop_oneof![
        Just(ReplyBody::Ok),
        ".*".prop_filter("not OK", |text| text != "OK").prop_map(ReplyBody::Text),
        (raw(), option::of(error())).prop_map(|(object, err)| ReplyBody::Object { object, err }),
        plain.prop_map(ReplyBody::Plain),
        error().prop_map(ReplyBody::Error),
    ]
}

fn push() -> impl Strategy<Value = ObjectPush> {
    let op = prop_oneof![Just(PushOp::Insert), Just(PushOp::Update), Just(PushOp::Delete)];
    let source = prop_oneof![
        Just(PushSource::EdgeController),
        Just(PushSource::DeviceController),
        Just(PushSource::DynamicController),
        Just(PushSource::PolicyController)
    ];
    let kind = prop_oneof![
        Just(Kind::Pod),
        Just(Kind::Device),
        "[a-z]{1,12}".prop_map(|kind| Kind::from(kind.as_str()))
    ];
    (op, key(kind), uid(), option::of(any::<u64>()), source).prop_map(
        |(op, key, uid, version, source)| ObjectPush {
            op,
            key,
            object: RawJson::parse(format!("{{\"metadata\":{{\"uid\":\"{uid}\"}},\"x\":1}}"))
                .unwrap(),
            uid,
            version: version.map(ResourceVersion),
            source,
        },
    )
}

fn downstream() -> impl Strategy<Value = Downstream> {
    let version = || option::of(any::<u64>().prop_map(ResourceVersion));
    prop_oneof![
        push().prop_map(Downstream::Object),
        (id(), text(), version(), reply_body()).prop_map(|(parent, resource, version, body)| {
            Downstream::Reply(Reply { parent, resource, version, body })
        }),
        raw().prop_map(Downstream::Membership),
        raw().prop_map(Downstream::MembershipDetail),
        id().prop_map(Downstream::TwinConfirm),
        ("[^/]{1,8}(/[^/]{1,8})?", raw()).prop_map(|(device, content)| {
            Downstream::TwinCloudUpdated { device: device.into(), content }
        }),
        (id(), raw()).prop_map(|(parent, content)| Downstream::Application { parent, content }),
        (text(), text(), any::<bool>(), raw()).prop_map(|(resource, operation, old, content)| {
            let source =
                if old { TaskSource::NodeUpgradeJobController } else { TaskSource::TaskManager };
            Downstream::Task(Task { resource, operation, source, content })
        }),
        ("[a-z]{1,8}", "[a-z0-9-]{1,8}", raw()).prop_map(|(ns, id, content)| {
            Downstream::Volume(VolumeCall {
                resource: format!("{ns}/volume/x{id}").into(),
                operation: "createvolume".into(),
                content,
            })
        }),
        (any::<bool>(), text(), text(), option::of(id()), raw()).prop_map(
            |(mqtt, operation, resource, parent, content)| {
                let target = if mqtt { RuleTarget::EventBus } else { RuleTarget::ServiceBus };
                Downstream::Rule(RuleCommand { target, operation, resource, parent, content })
            }
        ),
    ]
}

/// Over the wire as text.
fn sent(msg: &Message) -> Message {
    json::decode(json::encode(msg).unwrap().as_bytes()).unwrap()
}

proptest! {
    #[test]
    fn whatever_an_edge_can_say_arrives_as_it_was_said(
        said in upstream(),
        id in id(),
        at in any::<i64>(),
    ) {
        let msg = said.encode(&id, at);
        let arrived = sent(&msg);
        prop_assert_eq!(&arrived, &msg);
        prop_assert_eq!(Upstream::decode(&node(), arrived), Ok((id, said)));
    }

    #[test]
    fn whatever_the_cloud_can_say_arrives_as_it_was_said(
        said in downstream(),
        id in id(),
        at in any::<i64>(),
    ) {
        let msg = said.encode(&id, at);
        let arrived = sent(&msg);
        prop_assert_eq!(&arrived, &msg);
        prop_assert_eq!(Downstream::decode(arrived), Ok((id.clone(), said.clone())));
        let ack = said.ack(&id);
        prop_assert_eq!(ack.is_some(), said.needs_ack());
        if let Some(ack) = ack {
            prop_assert_eq!(&*ack.resource, msg.route.resource.as_str());
            let ack = Upstream::Ack(ack);
            let arrived = Upstream::decode(&node(), sent(&ack.encode(&id, at)));
            prop_assert_eq!(arrived, Ok((id, ack)));
        }
    }

    #[test]
    fn any_bytes_are_a_message_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(msg) = json::decode(&bytes) {
            let _: Result<_, DecodeError> = Upstream::decode(&node(), msg.clone());
            let _: Result<_, DecodeError> = Downstream::decode(msg);
        }
    }
}
