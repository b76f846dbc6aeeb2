# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_keadm_global_optspecs
    string join \n q/quiet v v= log-format= color= progress= ascii root= h/help V/version
end

function __fish_keadm_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_keadm_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_keadm_using_subcommand
    set -l cmd (__fish_keadm_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c keadm -n "__fish_keadm_needs_command" -l v -d 'The verbosity as KubeEdge writes it' -r
complete -c keadm -n "__fish_keadm_needs_command" -l log-format -d 'The log lines of the programs run by this command' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c keadm -n "__fish_keadm_needs_command" -l color -d 'When to use colour; `NO_COLOR` is heeded' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c keadm -n "__fish_keadm_needs_command" -l progress -d 'How steps are shown' -r -f -a "auto\t'A moving line on a terminal, plain lines otherwise'
plain\t'One line per step when it ends'
jsonl\t'One JSON object per event, on standard output'
none\t'Nothing'"
complete -c keadm -n "__fish_keadm_needs_command" -l root -d 'The folder below which the installation lies' -r
complete -c keadm -n "__fish_keadm_needs_command" -s q -l quiet -d 'Say nothing but data, warnings and errors'
complete -c keadm -n "__fish_keadm_needs_command" -s v -d 'Log more; repeat for even more'
complete -c keadm -n "__fish_keadm_needs_command" -l ascii -d 'Write `ok`, `FAIL` and `warn` instead of symbols'
complete -c keadm -n "__fish_keadm_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c keadm -n "__fish_keadm_needs_command" -s V -l version -d 'Print version'
complete -c keadm -n "__fish_keadm_needs_command" -f -a "up" -d 'Run everything on this machine: a control plane, cloudcore and an edge node'
complete -c keadm -n "__fish_keadm_needs_command" -f -a "init" -d 'Make this machine the cloud side'
complete -c keadm -n "__fish_keadm_needs_command" -f -a "join" -d 'Make this machine an edge node'
complete -c keadm -n "__fish_keadm_needs_command" -f -a "gettoken" -d 'Print a token with which an edge node can join'
complete -c keadm -n "__fish_keadm_needs_command" -f -a "check" -d 'Check this machine, and the cloud or edge side on it'
complete -c keadm -n "__fish_keadm_needs_command" -f -a "reset" -d 'Remove what `init` or `join` has made on this machine, and nothing else'
complete -c keadm -n "__fish_keadm_needs_command" -f -a "backup" -d 'Back up the embedded control plane while it runs'
complete -c keadm -n "__fish_keadm_needs_command" -f -a "restore" -d 'Restore the embedded control plane from a backup'
complete -c keadm -n "__fish_keadm_needs_command" -f -a "manifest" -d 'Print what `keadm init` applies to Kubernetes, as YAML'
complete -c keadm -n "__fish_keadm_needs_command" -f -a "config" -d 'Print or check configuration files'
complete -c keadm -n "__fish_keadm_needs_command" -f -a "dashboard" -d 'Watch the fleet in the terminal: nodes, pods, devices, messages, as they change'
complete -c keadm -n "__fish_keadm_needs_command" -f -a "device" -d 'Tell a device what it should be'
complete -c keadm -n "__fish_keadm_needs_command" -f -a "admission" -d 'Run the admission webhook in the foreground'
complete -c keadm -n "__fish_keadm_needs_command" -f -a "cloudcore" -d 'Run the cloud half in the foreground'
complete -c keadm -n "__fish_keadm_needs_command" -f -a "edgecore" -d 'Run the edge half in the foreground'
complete -c keadm -n "__fish_keadm_needs_command" -f -a "mapper" -d 'Run a sample mapper, which plays devices for the edge node on this machine'
complete -c keadm -n "__fish_keadm_needs_command" -f -a "control-plane" -d 'Run the embedded control plane in the foreground'
complete -c keadm -n "__fish_keadm_needs_command" -f -a "version" -d 'Print the version'
complete -c keadm -n "__fish_keadm_needs_command" -f -a "completion" -d 'Print the completion script of a shell'
complete -c keadm -n "__fish_keadm_needs_command" -f -a "help" -d 'Print the help of a command, or of a topic: `exit-codes`'
complete -c keadm -n "__fish_keadm_needs_command" -f -a "supervise" -d 'Run an installed service and start it again whenever it ends'
complete -c keadm -n "__fish_keadm_using_subcommand up" -l data-dir -d 'Where everything is kept [default: /var/lib/keadm, or ~/.local/state/keadm without root]' -r
complete -c keadm -n "__fish_keadm_using_subcommand up" -l node-name -d 'Name of the edge node [default: the host name]' -r
complete -c keadm -n "__fish_keadm_using_subcommand up" -l advertise-address -d 'Addresses and names by which other machines reach this one [default: the addresses of this machine]' -r
complete -c keadm -n "__fish_keadm_using_subcommand up" -l api-port -d 'Port of the API server' -r
complete -c keadm -n "__fish_keadm_using_subcommand up" -l timeout -d 'How long a step may take' -r
complete -c keadm -n "__fish_keadm_using_subcommand up" -l v -d 'The verbosity as KubeEdge writes it' -r
complete -c keadm -n "__fish_keadm_using_subcommand up" -l log-format -d 'The log lines of the programs run by this command' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c keadm -n "__fish_keadm_using_subcommand up" -l color -d 'When to use colour; `NO_COLOR` is heeded' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c keadm -n "__fish_keadm_using_subcommand up" -l progress -d 'How steps are shown' -r -f -a "auto\t'A moving line on a terminal, plain lines otherwise'
plain\t'One line per step when it ends'
jsonl\t'One JSON object per event, on standard output'
none\t'Nothing'"
complete -c keadm -n "__fish_keadm_using_subcommand up" -l root -d 'The folder below which the installation lies' -r
complete -c keadm -n "__fish_keadm_using_subcommand up" -l detach -d 'Go to the background as soon as everything is up'
complete -c keadm -n "__fish_keadm_using_subcommand up" -l stop -d 'Stop what runs in the background'
complete -c keadm -n "__fish_keadm_using_subcommand up" -l reset -d 'Start over: remove the state of earlier runs first'
complete -c keadm -n "__fish_keadm_using_subcommand up" -l no-sample -d 'Run no sample workload'
complete -c keadm -n "__fish_keadm_using_subcommand up" -l cloud-only -d 'Run no edge node, only the control plane and cloudcore; needs no root'
complete -c keadm -n "__fish_keadm_using_subcommand up" -l background -d 'Run as the background half of `--detach`'
complete -c keadm -n "__fish_keadm_using_subcommand up" -s q -l quiet -d 'Say nothing but data, warnings and errors'
complete -c keadm -n "__fish_keadm_using_subcommand up" -s v -d 'Log more; repeat for even more'
complete -c keadm -n "__fish_keadm_using_subcommand up" -l ascii -d 'Write `ok`, `FAIL` and `warn` instead of symbols'
complete -c keadm -n "__fish_keadm_using_subcommand up" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c keadm -n "__fish_keadm_using_subcommand init; and not __fish_seen_subcommand_from phase" -l kube-config -l kubeconfig -d 'The kubeconfig to use [default: ~/.kube/config, else that of `keadm init --embedded`]' -r
complete -c keadm -n "__fish_keadm_using_subcommand init; and not __fish_seen_subcommand_from phase" -l api-port -d 'Port of the own control plane' -r
complete -c keadm -n "__fish_keadm_using_subcommand init; and not __fish_seen_subcommand_from phase" -l advertise-address -d 'Addresses and names that edges dial; they go into cloudcore\'s certificate [default: the addresses of this machine]' -r
complete -c keadm -n "__fish_keadm_using_subcommand init; and not __fish_seen_subcommand_from phase" -l set -d 'A setting of cloudcore.yaml, in Helm\'s syntax: `modules.cloudHub.nodeLimit=1000`' -r
complete -c keadm -n "__fish_keadm_using_subcommand init; and not __fish_seen_subcommand_from phase" -l skip-phases -d 'Phases to leave out' -r
complete -c keadm -n "__fish_keadm_using_subcommand init; and not __fish_seen_subcommand_from phase" -l ignore-preflight-errors -d 'Checks whose failure is only a warning; `all` for all' -r
complete -c keadm -n "__fish_keadm_using_subcommand init; and not __fish_seen_subcommand_from phase" -l timeout -d 'How long to wait for cloudcore' -r
complete -c keadm -n "__fish_keadm_using_subcommand init; and not __fish_seen_subcommand_from phase" -l kubeedge-version -r
complete -c keadm -n "__fish_keadm_using_subcommand init; and not __fish_seen_subcommand_from phase" -l image-repository -r
complete -c keadm -n "__fish_keadm_using_subcommand init; and not __fish_seen_subcommand_from phase" -l v -d 'The verbosity as KubeEdge writes it' -r
complete -c keadm -n "__fish_keadm_using_subcommand init; and not __fish_seen_subcommand_from phase" -l log-format -d 'The log lines of the programs run by this command' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c keadm -n "__fish_keadm_using_subcommand init; and not __fish_seen_subcommand_from phase" -l color -d 'When to use colour; `NO_COLOR` is heeded' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c keadm -n "__fish_keadm_using_subcommand init; and not __fish_seen_subcommand_from phase" -l progress -d 'How steps are shown' -r -f -a "auto\t'A moving line on a terminal, plain lines otherwise'
plain\t'One line per step when it ends'
jsonl\t'One JSON object per event, on standard output'
none\t'Nothing'"
complete -c keadm -n "__fish_keadm_using_subcommand init; and not __fish_seen_subcommand_from phase" -l root -d 'The folder below which the installation lies' -r
complete -c keadm -n "__fish_keadm_using_subcommand init; and not __fish_seen_subcommand_from phase" -l embedded -d 'Bring an own control plane instead of using a Kubernetes'
complete -c keadm -n "__fish_keadm_using_subcommand init; and not __fish_seen_subcommand_from phase" -l force -d 'Go on although a cloudcore is running or was installed'
complete -c keadm -n "__fish_keadm_using_subcommand init; and not __fish_seen_subcommand_from phase" -s d -l dry-run -d 'Only show what would be done'
complete -c keadm -n "__fish_keadm_using_subcommand init; and not __fish_seen_subcommand_from phase" -l skip-preflight-checks -d 'Leave out the preflight checks'
complete -c keadm -n "__fish_keadm_using_subcommand init; and not __fish_seen_subcommand_from phase" -s q -l quiet -d 'Say nothing but data, warnings and errors'
complete -c keadm -n "__fish_keadm_using_subcommand init; and not __fish_seen_subcommand_from phase" -s v -d 'Log more; repeat for even more'
complete -c keadm -n "__fish_keadm_using_subcommand init; and not __fish_seen_subcommand_from phase" -l ascii -d 'Write `ok`, `FAIL` and `warn` instead of symbols'
complete -c keadm -n "__fish_keadm_using_subcommand init; and not __fish_seen_subcommand_from phase" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c keadm -n "__fish_keadm_using_subcommand init; and not __fish_seen_subcommand_from phase" -f -a "phase" -d 'Run one phase; without a name, list them'
complete -c keadm -n "__fish_keadm_using_subcommand init; and __fish_seen_subcommand_from phase" -l kube-config -l kubeconfig -d 'The kubeconfig to use [default: ~/.kube/config, else that of `keadm init --embedded`]' -r
complete -c keadm -n "__fish_keadm_using_subcommand init; and __fish_seen_subcommand_from phase" -l api-port -d 'Port of the own control plane' -r
complete -c keadm -n "__fish_keadm_using_subcommand init; and __fish_seen_subcommand_from phase" -l advertise-address -d 'Addresses and names that edges dial; they go into cloudcore\'s certificate [default: the addresses of this machine]' -r
complete -c keadm -n "__fish_keadm_using_subcommand init; and __fish_seen_subcommand_from phase" -l set -d 'A setting of cloudcore.yaml, in Helm\'s syntax: `modules.cloudHub.nodeLimit=1000`' -r
complete -c keadm -n "__fish_keadm_using_subcommand init; and __fish_seen_subcommand_from phase" -l skip-phases -d 'Phases to leave out' -r
complete -c keadm -n "__fish_keadm_using_subcommand init; and __fish_seen_subcommand_from phase" -l ignore-preflight-errors -d 'Checks whose failure is only a warning; `all` for all' -r
complete -c keadm -n "__fish_keadm_using_subcommand init; and __fish_seen_subcommand_from phase" -l timeout -d 'How long to wait for cloudcore' -r
complete -c keadm -n "__fish_keadm_using_subcommand init; and __fish_seen_subcommand_from phase" -l kubeedge-version -r
complete -c keadm -n "__fish_keadm_using_subcommand init; and __fish_seen_subcommand_from phase" -l image-repository -r
complete -c keadm -n "__fish_keadm_using_subcommand init; and __fish_seen_subcommand_from phase" -l v -d 'The verbosity as KubeEdge writes it' -r
complete -c keadm -n "__fish_keadm_using_subcommand init; and __fish_seen_subcommand_from phase" -l log-format -d 'The log lines of the programs run by this command' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c keadm -n "__fish_keadm_using_subcommand init; and __fish_seen_subcommand_from phase" -l color -d 'When to use colour; `NO_COLOR` is heeded' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c keadm -n "__fish_keadm_using_subcommand init; and __fish_seen_subcommand_from phase" -l progress -d 'How steps are shown' -r -f -a "auto\t'A moving line on a terminal, plain lines otherwise'
plain\t'One line per step when it ends'
jsonl\t'One JSON object per event, on standard output'
none\t'Nothing'"
complete -c keadm -n "__fish_keadm_using_subcommand init; and __fish_seen_subcommand_from phase" -l root -d 'The folder below which the installation lies' -r
complete -c keadm -n "__fish_keadm_using_subcommand init; and __fish_seen_subcommand_from phase" -l embedded -d 'Bring an own control plane instead of using a Kubernetes'
complete -c keadm -n "__fish_keadm_using_subcommand init; and __fish_seen_subcommand_from phase" -l force -d 'Go on although a cloudcore is running or was installed'
complete -c keadm -n "__fish_keadm_using_subcommand init; and __fish_seen_subcommand_from phase" -s d -l dry-run -d 'Only show what would be done'
complete -c keadm -n "__fish_keadm_using_subcommand init; and __fish_seen_subcommand_from phase" -l skip-preflight-checks -d 'Leave out the preflight checks'
complete -c keadm -n "__fish_keadm_using_subcommand init; and __fish_seen_subcommand_from phase" -s q -l quiet -d 'Say nothing but data, warnings and errors'
complete -c keadm -n "__fish_keadm_using_subcommand init; and __fish_seen_subcommand_from phase" -s v -d 'Log more; repeat for even more'
complete -c keadm -n "__fish_keadm_using_subcommand init; and __fish_seen_subcommand_from phase" -l ascii -d 'Write `ok`, `FAIL` and `warn` instead of symbols'
complete -c keadm -n "__fish_keadm_using_subcommand init; and __fish_seen_subcommand_from phase" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c keadm -n "__fish_keadm_using_subcommand join; and not __fish_seen_subcommand_from phase" -s e -l cloudcore-ipport -d 'Address and port of cloudcore\'s message link' -r
complete -c keadm -n "__fish_keadm_using_subcommand join; and not __fish_seen_subcommand_from phase" -s t -l token -d 'What `keadm gettoken` printed on the cloud side; better given in the environment' -r
complete -c keadm -n "__fish_keadm_using_subcommand join; and not __fish_seen_subcommand_from phase" -s i -l edgenode-name -d 'The node\'s name [default: the host name]' -r
complete -c keadm -n "__fish_keadm_using_subcommand join; and not __fish_seen_subcommand_from phase" -s s -l certport -d 'Port of cloudcore\'s certificate service' -r
complete -c keadm -n "__fish_keadm_using_subcommand join; and not __fish_seen_subcommand_from phase" -s p -l remote-runtime-endpoint -d 'Socket of the container runtime, or `embedded` for our own [default: containerd\'s socket if it is there, else `embedded`]' -r
complete -c keadm -n "__fish_keadm_using_subcommand join; and not __fish_seen_subcommand_from phase" -l cgroupdriver -d 'Who manages cgroups' -r -f -a "cgroupfs\t''
systemd\t''"
complete -c keadm -n "__fish_keadm_using_subcommand join; and not __fish_seen_subcommand_from phase" -l hub-protocol -d 'The protocol of the link' -r -f -a "websocket\t''
quic\t''"
complete -c keadm -n "__fish_keadm_using_subcommand join; and not __fish_seen_subcommand_from phase" -s l -l labels -d 'Labels of the node: `key=value,key2=value2`' -r
complete -c keadm -n "__fish_keadm_using_subcommand join; and not __fish_seen_subcommand_from phase" -l set -d 'A setting of edgecore.yaml, in Helm\'s syntax: `modules.edgeStream.enable=true`' -r
complete -c keadm -n "__fish_keadm_using_subcommand join; and not __fish_seen_subcommand_from phase" -l skip-phases -d 'Phases to leave out' -r
complete -c keadm -n "__fish_keadm_using_subcommand join; and not __fish_seen_subcommand_from phase" -l ignore-preflight-errors -d 'Checks whose failure is only a warning; `all` for all' -r
complete -c keadm -n "__fish_keadm_using_subcommand join; and not __fish_seen_subcommand_from phase" -l timeout -d 'How long to wait for the node' -r
complete -c keadm -n "__fish_keadm_using_subcommand join; and not __fish_seen_subcommand_from phase" -l certPath -r
complete -c keadm -n "__fish_keadm_using_subcommand join; and not __fish_seen_subcommand_from phase" -l tarballpath -r
complete -c keadm -n "__fish_keadm_using_subcommand join; and not __fish_seen_subcommand_from phase" -l kubeedge-version -r
complete -c keadm -n "__fish_keadm_using_subcommand join; and not __fish_seen_subcommand_from phase" -l image-repository -r
complete -c keadm -n "__fish_keadm_using_subcommand join; and not __fish_seen_subcommand_from phase" -l v -d 'The verbosity as KubeEdge writes it' -r
complete -c keadm -n "__fish_keadm_using_subcommand join; and not __fish_seen_subcommand_from phase" -l log-format -d 'The log lines of the programs run by this command' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c keadm -n "__fish_keadm_using_subcommand join; and not __fish_seen_subcommand_from phase" -l color -d 'When to use colour; `NO_COLOR` is heeded' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c keadm -n "__fish_keadm_using_subcommand join; and not __fish_seen_subcommand_from phase" -l progress -d 'How steps are shown' -r -f -a "auto\t'A moving line on a terminal, plain lines otherwise'
plain\t'One line per step when it ends'
jsonl\t'One JSON object per event, on standard output'
none\t'Nothing'"
complete -c keadm -n "__fish_keadm_using_subcommand join; and not __fish_seen_subcommand_from phase" -l root -d 'The folder below which the installation lies' -r
complete -c keadm -n "__fish_keadm_using_subcommand join; and not __fish_seen_subcommand_from phase" -l dry-run -d 'Only show what would be done'
complete -c keadm -n "__fish_keadm_using_subcommand join; and not __fish_seen_subcommand_from phase" -l clean -d 'Remove what an earlier join has left behind first'
complete -c keadm -n "__fish_keadm_using_subcommand join; and not __fish_seen_subcommand_from phase" -s q -l quiet -d 'Say nothing but data, warnings and errors'
complete -c keadm -n "__fish_keadm_using_subcommand join; and not __fish_seen_subcommand_from phase" -s v -d 'Log more; repeat for even more'
complete -c keadm -n "__fish_keadm_using_subcommand join; and not __fish_seen_subcommand_from phase" -l ascii -d 'Write `ok`, `FAIL` and `warn` instead of symbols'
complete -c keadm -n "__fish_keadm_using_subcommand join; and not __fish_seen_subcommand_from phase" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c keadm -n "__fish_keadm_using_subcommand join; and not __fish_seen_subcommand_from phase" -f -a "phase" -d 'Run one phase; without a name, list them'
complete -c keadm -n "__fish_keadm_using_subcommand join; and __fish_seen_subcommand_from phase" -s e -l cloudcore-ipport -d 'Address and port of cloudcore\'s message link' -r
complete -c keadm -n "__fish_keadm_using_subcommand join; and __fish_seen_subcommand_from phase" -s t -l token -d 'What `keadm gettoken` printed on the cloud side; better given in the environment' -r
complete -c keadm -n "__fish_keadm_using_subcommand join; and __fish_seen_subcommand_from phase" -s i -l edgenode-name -d 'The node\'s name [default: the host name]' -r
complete -c keadm -n "__fish_keadm_using_subcommand join; and __fish_seen_subcommand_from phase" -s s -l certport -d 'Port of cloudcore\'s certificate service' -r
complete -c keadm -n "__fish_keadm_using_subcommand join; and __fish_seen_subcommand_from phase" -s p -l remote-runtime-endpoint -d 'Socket of the container runtime, or `embedded` for our own [default: containerd\'s socket if it is there, else `embedded`]' -r
complete -c keadm -n "__fish_keadm_using_subcommand join; and __fish_seen_subcommand_from phase" -l cgroupdriver -d 'Who manages cgroups' -r -f -a "cgroupfs\t''
systemd\t''"
complete -c keadm -n "__fish_keadm_using_subcommand join; and __fish_seen_subcommand_from phase" -l hub-protocol -d 'The protocol of the link' -r -f -a "websocket\t''
quic\t''"
complete -c keadm -n "__fish_keadm_using_subcommand join; and __fish_seen_subcommand_from phase" -s l -l labels -d 'Labels of the node: `key=value,key2=value2`' -r
complete -c keadm -n "__fish_keadm_using_subcommand join; and __fish_seen_subcommand_from phase" -l set -d 'A setting of edgecore.yaml, in Helm\'s syntax: `modules.edgeStream.enable=true`' -r
complete -c keadm -n "__fish_keadm_using_subcommand join; and __fish_seen_subcommand_from phase" -l skip-phases -d 'Phases to leave out' -r
complete -c keadm -n "__fish_keadm_using_subcommand join; and __fish_seen_subcommand_from phase" -l ignore-preflight-errors -d 'Checks whose failure is only a warning; `all` for all' -r
complete -c keadm -n "__fish_keadm_using_subcommand join; and __fish_seen_subcommand_from phase" -l timeout -d 'How long to wait for the node' -r
complete -c keadm -n "__fish_keadm_using_subcommand join; and __fish_seen_subcommand_from phase" -l certPath -r
complete -c keadm -n "__fish_keadm_using_subcommand join; and __fish_seen_subcommand_from phase" -l tarballpath -r
complete -c keadm -n "__fish_keadm_using_subcommand join; and __fish_seen_subcommand_from phase" -l kubeedge-version -r
complete -c keadm -n "__fish_keadm_using_subcommand join; and __fish_seen_subcommand_from phase" -l image-repository -r
complete -c keadm -n "__fish_keadm_using_subcommand join; and __fish_seen_subcommand_from phase" -l v -d 'The verbosity as KubeEdge writes it' -r
complete -c keadm -n "__fish_keadm_using_subcommand join; and __fish_seen_subcommand_from phase" -l log-format -d 'The log lines of the programs run by this command' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c keadm -n "__fish_keadm_using_subcommand join; and __fish_seen_subcommand_from phase" -l color -d 'When to use colour; `NO_COLOR` is heeded' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c keadm -n "__fish_keadm_using_subcommand join; and __fish_seen_subcommand_from phase" -l progress -d 'How steps are shown' -r -f -a "auto\t'A moving line on a terminal, plain lines otherwise'
plain\t'One line per step when it ends'
jsonl\t'One JSON object per event, on standard output'
none\t'Nothing'"
complete -c keadm -n "__fish_keadm_using_subcommand join; and __fish_seen_subcommand_from phase" -l root -d 'The folder below which the installation lies' -r
complete -c keadm -n "__fish_keadm_using_subcommand join; and __fish_seen_subcommand_from phase" -l dry-run -d 'Only show what would be done'
complete -c keadm -n "__fish_keadm_using_subcommand join; and __fish_seen_subcommand_from phase" -l clean -d 'Remove what an earlier join has left behind first'
complete -c keadm -n "__fish_keadm_using_subcommand join; and __fish_seen_subcommand_from phase" -s q -l quiet -d 'Say nothing but data, warnings and errors'
complete -c keadm -n "__fish_keadm_using_subcommand join; and __fish_seen_subcommand_from phase" -s v -d 'Log more; repeat for even more'
complete -c keadm -n "__fish_keadm_using_subcommand join; and __fish_seen_subcommand_from phase" -l ascii -d 'Write `ok`, `FAIL` and `warn` instead of symbols'
complete -c keadm -n "__fish_keadm_using_subcommand join; and __fish_seen_subcommand_from phase" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c keadm -n "__fish_keadm_using_subcommand gettoken; and not __fish_seen_subcommand_from list revoke" -l kube-config -l kubeconfig -d 'The kubeconfig to use [default: ~/.kube/config, else that of `keadm init --embedded`]' -r
complete -c keadm -n "__fish_keadm_using_subcommand gettoken; and not __fish_seen_subcommand_from list revoke" -l ttl -d 'Make a new token that is valid for this long, for example `30m`, `12h`, `7d`' -r
complete -c keadm -n "__fish_keadm_using_subcommand gettoken; and not __fish_seen_subcommand_from list revoke" -l v -d 'The verbosity as KubeEdge writes it' -r
complete -c keadm -n "__fish_keadm_using_subcommand gettoken; and not __fish_seen_subcommand_from list revoke" -l log-format -d 'The log lines of the programs run by this command' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c keadm -n "__fish_keadm_using_subcommand gettoken; and not __fish_seen_subcommand_from list revoke" -l color -d 'When to use colour; `NO_COLOR` is heeded' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c keadm -n "__fish_keadm_using_subcommand gettoken; and not __fish_seen_subcommand_from list revoke" -l progress -d 'How steps are shown' -r -f -a "auto\t'A moving line on a terminal, plain lines otherwise'
plain\t'One line per step when it ends'
jsonl\t'One JSON object per event, on standard output'
none\t'Nothing'"
complete -c keadm -n "__fish_keadm_using_subcommand gettoken; and not __fish_seen_subcommand_from list revoke" -l root -d 'The folder below which the installation lies' -r
complete -c keadm -n "__fish_keadm_using_subcommand gettoken; and not __fish_seen_subcommand_from list revoke" -s q -l quiet -d 'Say nothing but data, warnings and errors'
complete -c keadm -n "__fish_keadm_using_subcommand gettoken; and not __fish_seen_subcommand_from list revoke" -s v -d 'Log more; repeat for even more'
complete -c keadm -n "__fish_keadm_using_subcommand gettoken; and not __fish_seen_subcommand_from list revoke" -l ascii -d 'Write `ok`, `FAIL` and `warn` instead of symbols'
complete -c keadm -n "__fish_keadm_using_subcommand gettoken; and not __fish_seen_subcommand_from list revoke" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c keadm -n "__fish_keadm_using_subcommand gettoken; and not __fish_seen_subcommand_from list revoke" -f -a "list" -d 'List the tokens by their identifiers, with the time they end'
complete -c keadm -n "__fish_keadm_using_subcommand gettoken; and not __fish_seen_subcommand_from list revoke" -f -a "revoke" -d 'Refuse a token from now on'
complete -c keadm -n "__fish_keadm_using_subcommand gettoken; and __fish_seen_subcommand_from list" -l kube-config -l kubeconfig -d 'The kubeconfig to use [default: ~/.kube/config, else that of `keadm init --embedded`]' -r
complete -c keadm -n "__fish_keadm_using_subcommand gettoken; and __fish_seen_subcommand_from list" -s o -l output -d 'The form of the list' -r -f -a "json\t'A documented shape that scripts can rely on'"
complete -c keadm -n "__fish_keadm_using_subcommand gettoken; and __fish_seen_subcommand_from list" -l v -d 'The verbosity as KubeEdge writes it' -r
complete -c keadm -n "__fish_keadm_using_subcommand gettoken; and __fish_seen_subcommand_from list" -l log-format -d 'The log lines of the programs run by this command' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c keadm -n "__fish_keadm_using_subcommand gettoken; and __fish_seen_subcommand_from list" -l color -d 'When to use colour; `NO_COLOR` is heeded' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c keadm -n "__fish_keadm_using_subcommand gettoken; and __fish_seen_subcommand_from list" -l progress -d 'How steps are shown' -r -f -a "auto\t'A moving line on a terminal, plain lines otherwise'
plain\t'One line per step when it ends'
jsonl\t'One JSON object per event, on standard output'
none\t'Nothing'"
complete -c keadm -n "__fish_keadm_using_subcommand gettoken; and __fish_seen_subcommand_from list" -l root -d 'The folder below which the installation lies' -r
complete -c keadm -n "__fish_keadm_using_subcommand gettoken; and __fish_seen_subcommand_from list" -s q -l quiet -d 'Say nothing but data, warnings and errors'
complete -c keadm -n "__fish_keadm_using_subcommand gettoken; and __fish_seen_subcommand_from list" -s v -d 'Log more; repeat for even more'
complete -c keadm -n "__fish_keadm_using_subcommand gettoken; and __fish_seen_subcommand_from list" -l ascii -d 'Write `ok`, `FAIL` and `warn` instead of symbols'
complete -c keadm -n "__fish_keadm_using_subcommand gettoken; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c keadm -n "__fish_keadm_using_subcommand gettoken; and __fish_seen_subcommand_from revoke" -l kube-config -l kubeconfig -d 'The kubeconfig to use [default: ~/.kube/config, else that of `keadm init --embedded`]' -r
complete -c keadm -n "__fish_keadm_using_subcommand gettoken; and __fish_seen_subcommand_from revoke" -l v -d 'The verbosity as KubeEdge writes it' -r
complete -c keadm -n "__fish_keadm_using_subcommand gettoken; and __fish_seen_subcommand_from revoke" -l log-format -d 'The log lines of the programs run by this command' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c keadm -n "__fish_keadm_using_subcommand gettoken; and __fish_seen_subcommand_from revoke" -l color -d 'When to use colour; `NO_COLOR` is heeded' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c keadm -n "__fish_keadm_using_subcommand gettoken; and __fish_seen_subcommand_from revoke" -l progress -d 'How steps are shown' -r -f -a "auto\t'A moving line on a terminal, plain lines otherwise'
plain\t'One line per step when it ends'
jsonl\t'One JSON object per event, on standard output'
none\t'Nothing'"
complete -c keadm -n "__fish_keadm_using_subcommand gettoken; and __fish_seen_subcommand_from revoke" -l root -d 'The folder below which the installation lies' -r
complete -c keadm -n "__fish_keadm_using_subcommand gettoken; and __fish_seen_subcommand_from revoke" -s q -l quiet -d 'Say nothing but data, warnings and errors'
complete -c keadm -n "__fish_keadm_using_subcommand gettoken; and __fish_seen_subcommand_from revoke" -s v -d 'Log more; repeat for even more'
complete -c keadm -n "__fish_keadm_using_subcommand gettoken; and __fish_seen_subcommand_from revoke" -l ascii -d 'Write `ok`, `FAIL` and `warn` instead of symbols'
complete -c keadm -n "__fish_keadm_using_subcommand gettoken; and __fish_seen_subcommand_from revoke" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c keadm -n "__fish_keadm_using_subcommand check" -s o -l output -d 'The form of the result' -r -f -a "json\t'A documented shape that scripts can rely on'"
complete -c keadm -n "__fish_keadm_using_subcommand check" -l kube-config -l kubeconfig -d 'The kubeconfig to use [default: ~/.kube/config, else that of `keadm init --embedded`]' -r
complete -c keadm -n "__fish_keadm_using_subcommand check" -l v -d 'The verbosity as KubeEdge writes it' -r
complete -c keadm -n "__fish_keadm_using_subcommand check" -l log-format -d 'The log lines of the programs run by this command' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c keadm -n "__fish_keadm_using_subcommand check" -l color -d 'When to use colour; `NO_COLOR` is heeded' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c keadm -n "__fish_keadm_using_subcommand check" -l progress -d 'How steps are shown' -r -f -a "auto\t'A moving line on a terminal, plain lines otherwise'
plain\t'One line per step when it ends'
jsonl\t'One JSON object per event, on standard output'
none\t'Nothing'"
complete -c keadm -n "__fish_keadm_using_subcommand check" -l root -d 'The folder below which the installation lies' -r
complete -c keadm -n "__fish_keadm_using_subcommand check" -s q -l quiet -d 'Say nothing but data, warnings and errors'
complete -c keadm -n "__fish_keadm_using_subcommand check" -s v -d 'Log more; repeat for even more'
complete -c keadm -n "__fish_keadm_using_subcommand check" -l ascii -d 'Write `ok`, `FAIL` and `warn` instead of symbols'
complete -c keadm -n "__fish_keadm_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c keadm -n "__fish_keadm_using_subcommand reset; and not __fish_seen_subcommand_from cloud edge" -l v -d 'The verbosity as KubeEdge writes it' -r
complete -c keadm -n "__fish_keadm_using_subcommand reset; and not __fish_seen_subcommand_from cloud edge" -l log-format -d 'The log lines of the programs run by this command' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c keadm -n "__fish_keadm_using_subcommand reset; and not __fish_seen_subcommand_from cloud edge" -l color -d 'When to use colour; `NO_COLOR` is heeded' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c keadm -n "__fish_keadm_using_subcommand reset; and not __fish_seen_subcommand_from cloud edge" -l progress -d 'How steps are shown' -r -f -a "auto\t'A moving line on a terminal, plain lines otherwise'
plain\t'One line per step when it ends'
jsonl\t'One JSON object per event, on standard output'
none\t'Nothing'"
complete -c keadm -n "__fish_keadm_using_subcommand reset; and not __fish_seen_subcommand_from cloud edge" -l root -d 'The folder below which the installation lies' -r
complete -c keadm -n "__fish_keadm_using_subcommand reset; and not __fish_seen_subcommand_from cloud edge" -s q -l quiet -d 'Say nothing but data, warnings and errors'
complete -c keadm -n "__fish_keadm_using_subcommand reset; and not __fish_seen_subcommand_from cloud edge" -s v -d 'Log more; repeat for even more'
complete -c keadm -n "__fish_keadm_using_subcommand reset; and not __fish_seen_subcommand_from cloud edge" -l ascii -d 'Write `ok`, `FAIL` and `warn` instead of symbols'
complete -c keadm -n "__fish_keadm_using_subcommand reset; and not __fish_seen_subcommand_from cloud edge" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c keadm -n "__fish_keadm_using_subcommand reset; and not __fish_seen_subcommand_from cloud edge" -f -a "cloud" -d 'Stop cloudcore and remove what `keadm init` made'
complete -c keadm -n "__fish_keadm_using_subcommand reset; and not __fish_seen_subcommand_from cloud edge" -f -a "edge" -d 'Stop edgecore and its containers and remove what `keadm join` made'
complete -c keadm -n "__fish_keadm_using_subcommand reset; and __fish_seen_subcommand_from cloud" -l kube-config -l kubeconfig -d 'The kubeconfig of the cluster that `init` prepared' -r
complete -c keadm -n "__fish_keadm_using_subcommand reset; and __fish_seen_subcommand_from cloud" -l remote-runtime-endpoint -r
complete -c keadm -n "__fish_keadm_using_subcommand reset; and __fish_seen_subcommand_from cloud" -l v -d 'The verbosity as KubeEdge writes it' -r
complete -c keadm -n "__fish_keadm_using_subcommand reset; and __fish_seen_subcommand_from cloud" -l log-format -d 'The log lines of the programs run by this command' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c keadm -n "__fish_keadm_using_subcommand reset; and __fish_seen_subcommand_from cloud" -l color -d 'When to use colour; `NO_COLOR` is heeded' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c keadm -n "__fish_keadm_using_subcommand reset; and __fish_seen_subcommand_from cloud" -l progress -d 'How steps are shown' -r -f -a "auto\t'A moving line on a terminal, plain lines otherwise'
plain\t'One line per step when it ends'
jsonl\t'One JSON object per event, on standard output'
none\t'Nothing'"
complete -c keadm -n "__fish_keadm_using_subcommand reset; and __fish_seen_subcommand_from cloud" -l root -d 'The folder below which the installation lies' -r
complete -c keadm -n "__fish_keadm_using_subcommand reset; and __fish_seen_subcommand_from cloud" -s y -l force -l yes -d 'Do not ask'
complete -c keadm -n "__fish_keadm_using_subcommand reset; and __fish_seen_subcommand_from cloud" -l local-only -d 'Leave what is in Kubernetes, and pods that are running: remove only files and services'
complete -c keadm -n "__fish_keadm_using_subcommand reset; and __fish_seen_subcommand_from cloud" -s q -l quiet -d 'Say nothing but data, warnings and errors'
complete -c keadm -n "__fish_keadm_using_subcommand reset; and __fish_seen_subcommand_from cloud" -s v -d 'Log more; repeat for even more'
complete -c keadm -n "__fish_keadm_using_subcommand reset; and __fish_seen_subcommand_from cloud" -l ascii -d 'Write `ok`, `FAIL` and `warn` instead of symbols'
complete -c keadm -n "__fish_keadm_using_subcommand reset; and __fish_seen_subcommand_from cloud" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c keadm -n "__fish_keadm_using_subcommand reset; and __fish_seen_subcommand_from edge" -l kube-config -l kubeconfig -d 'The kubeconfig of the cluster that `init` prepared' -r
complete -c keadm -n "__fish_keadm_using_subcommand reset; and __fish_seen_subcommand_from edge" -l remote-runtime-endpoint -r
complete -c keadm -n "__fish_keadm_using_subcommand reset; and __fish_seen_subcommand_from edge" -l v -d 'The verbosity as KubeEdge writes it' -r
complete -c keadm -n "__fish_keadm_using_subcommand reset; and __fish_seen_subcommand_from edge" -l log-format -d 'The log lines of the programs run by this command' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c keadm -n "__fish_keadm_using_subcommand reset; and __fish_seen_subcommand_from edge" -l color -d 'When to use colour; `NO_COLOR` is heeded' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c keadm -n "__fish_keadm_using_subcommand reset; and __fish_seen_subcommand_from edge" -l progress -d 'How steps are shown' -r -f -a "auto\t'A moving line on a terminal, plain lines otherwise'
plain\t'One line per step when it ends'
jsonl\t'One JSON object per event, on standard output'
none\t'Nothing'"
complete -c keadm -n "__fish_keadm_using_subcommand reset; and __fish_seen_subcommand_from edge" -l root -d 'The folder below which the installation lies' -r
complete -c keadm -n "__fish_keadm_using_subcommand reset; and __fish_seen_subcommand_from edge" -s y -l force -l yes -d 'Do not ask'
complete -c keadm -n "__fish_keadm_using_subcommand reset; and __fish_seen_subcommand_from edge" -l local-only -d 'Leave what is in Kubernetes, and pods that are running: remove only files and services'
complete -c keadm -n "__fish_keadm_using_subcommand reset; and __fish_seen_subcommand_from edge" -s q -l quiet -d 'Say nothing but data, warnings and errors'
complete -c keadm -n "__fish_keadm_using_subcommand reset; and __fish_seen_subcommand_from edge" -s v -d 'Log more; repeat for even more'
complete -c keadm -n "__fish_keadm_using_subcommand reset; and __fish_seen_subcommand_from edge" -l ascii -d 'Write `ok`, `FAIL` and `warn` instead of symbols'
complete -c keadm -n "__fish_keadm_using_subcommand reset; and __fish_seen_subcommand_from edge" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c keadm -n "__fish_keadm_using_subcommand backup; and not __fish_seen_subcommand_from cloud" -l v -d 'The verbosity as KubeEdge writes it' -r
complete -c keadm -n "__fish_keadm_using_subcommand backup; and not __fish_seen_subcommand_from cloud" -l log-format -d 'The log lines of the programs run by this command' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c keadm -n "__fish_keadm_using_subcommand backup; and not __fish_seen_subcommand_from cloud" -l color -d 'When to use colour; `NO_COLOR` is heeded' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c keadm -n "__fish_keadm_using_subcommand backup; and not __fish_seen_subcommand_from cloud" -l progress -d 'How steps are shown' -r -f -a "auto\t'A moving line on a terminal, plain lines otherwise'
plain\t'One line per step when it ends'
jsonl\t'One JSON object per event, on standard output'
none\t'Nothing'"
complete -c keadm -n "__fish_keadm_using_subcommand backup; and not __fish_seen_subcommand_from cloud" -l root -d 'The folder below which the installation lies' -r
complete -c keadm -n "__fish_keadm_using_subcommand backup; and not __fish_seen_subcommand_from cloud" -s q -l quiet -d 'Say nothing but data, warnings and errors'
complete -c keadm -n "__fish_keadm_using_subcommand backup; and not __fish_seen_subcommand_from cloud" -s v -d 'Log more; repeat for even more'
complete -c keadm -n "__fish_keadm_using_subcommand backup; and not __fish_seen_subcommand_from cloud" -l ascii -d 'Write `ok`, `FAIL` and `warn` instead of symbols'
complete -c keadm -n "__fish_keadm_using_subcommand backup; and not __fish_seen_subcommand_from cloud" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c keadm -n "__fish_keadm_using_subcommand backup; and not __fish_seen_subcommand_from cloud" -f -a "cloud" -d 'Write everything that the embedded control plane keeps to FILE'
complete -c keadm -n "__fish_keadm_using_subcommand backup; and __fish_seen_subcommand_from cloud" -l data-dir -d 'Where the control plane keeps its data [default: /var/lib/kubeedge/control-plane]' -r
complete -c keadm -n "__fish_keadm_using_subcommand backup; and __fish_seen_subcommand_from cloud" -l v -d 'The verbosity as KubeEdge writes it' -r
complete -c keadm -n "__fish_keadm_using_subcommand backup; and __fish_seen_subcommand_from cloud" -l log-format -d 'The log lines of the programs run by this command' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c keadm -n "__fish_keadm_using_subcommand backup; and __fish_seen_subcommand_from cloud" -l color -d 'When to use colour; `NO_COLOR` is heeded' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c keadm -n "__fish_keadm_using_subcommand backup; and __fish_seen_subcommand_from cloud" -l progress -d 'How steps are shown' -r -f -a "auto\t'A moving line on a terminal, plain lines otherwise'
plain\t'One line per step when it ends'
jsonl\t'One JSON object per event, on standard output'
none\t'Nothing'"
complete -c keadm -n "__fish_keadm_using_subcommand backup; and __fish_seen_subcommand_from cloud" -l root -d 'The folder below which the installation lies' -r
complete -c keadm -n "__fish_keadm_using_subcommand backup; and __fish_seen_subcommand_from cloud" -s q -l quiet -d 'Say nothing but data, warnings and errors'
complete -c keadm -n "__fish_keadm_using_subcommand backup; and __fish_seen_subcommand_from cloud" -s v -d 'Log more; repeat for even more'
complete -c keadm -n "__fish_keadm_using_subcommand backup; and __fish_seen_subcommand_from cloud" -l ascii -d 'Write `ok`, `FAIL` and `warn` instead of symbols'
complete -c keadm -n "__fish_keadm_using_subcommand backup; and __fish_seen_subcommand_from cloud" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c keadm -n "__fish_keadm_using_subcommand restore; and not __fish_seen_subcommand_from cloud" -l v -d 'The verbosity as KubeEdge writes it' -r
complete -c keadm -n "__fish_keadm_using_subcommand restore; and not __fish_seen_subcommand_from cloud" -l log-format -d 'The log lines of the programs run by this command' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c keadm -n "__fish_keadm_using_subcommand restore; and not __fish_seen_subcommand_from cloud" -l color -d 'When to use colour; `NO_COLOR` is heeded' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c keadm -n "__fish_keadm_using_subcommand restore; and not __fish_seen_subcommand_from cloud" -l progress -d 'How steps are shown' -r -f -a "auto\t'A moving line on a terminal, plain lines otherwise'
plain\t'One line per step when it ends'
jsonl\t'One JSON object per event, on standard output'
none\t'Nothing'"
complete -c keadm -n "__fish_keadm_using_subcommand restore; and not __fish_seen_subcommand_from cloud" -l root -d 'The folder below which the installation lies' -r
complete -c keadm -n "__fish_keadm_using_subcommand restore; and not __fish_seen_subcommand_from cloud" -s q -l quiet -d 'Say nothing but data, warnings and errors'
complete -c keadm -n "__fish_keadm_using_subcommand restore; and not __fish_seen_subcommand_from cloud" -s v -d 'Log more; repeat for even more'
complete -c keadm -n "__fish_keadm_using_subcommand restore; and not __fish_seen_subcommand_from cloud" -l ascii -d 'Write `ok`, `FAIL` and `warn` instead of symbols'
complete -c keadm -n "__fish_keadm_using_subcommand restore; and not __fish_seen_subcommand_from cloud" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c keadm -n "__fish_keadm_using_subcommand restore; and not __fish_seen_subcommand_from cloud" -f -a "cloud" -d 'Put what is in FILE in the place of what the embedded control plane has'
complete -c keadm -n "__fish_keadm_using_subcommand restore; and __fish_seen_subcommand_from cloud" -l data-dir -d 'Where the control plane keeps its data [default: /var/lib/kubeedge/control-plane]' -r
complete -c keadm -n "__fish_keadm_using_subcommand restore; and __fish_seen_subcommand_from cloud" -l v -d 'The verbosity as KubeEdge writes it' -r
complete -c keadm -n "__fish_keadm_using_subcommand restore; and __fish_seen_subcommand_from cloud" -l log-format -d 'The log lines of the programs run by this command' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c keadm -n "__fish_keadm_using_subcommand restore; and __fish_seen_subcommand_from cloud" -l color -d 'When to use colour; `NO_COLOR` is heeded' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c keadm -n "__fish_keadm_using_subcommand restore; and __fish_seen_subcommand_from cloud" -l progress -d 'How steps are shown' -r -f -a "auto\t'A moving line on a terminal, plain lines otherwise'
plain\t'One line per step when it ends'
jsonl\t'One JSON object per event, on standard output'
none\t'Nothing'"
complete -c keadm -n "__fish_keadm_using_subcommand restore; and __fish_seen_subcommand_from cloud" -l root -d 'The folder below which the installation lies' -r
complete -c keadm -n "__fish_keadm_using_subcommand restore; and __fish_seen_subcommand_from cloud" -s y -l yes -l force -d 'Do not ask'
complete -c keadm -n "__fish_keadm_using_subcommand restore; and __fish_seen_subcommand_from cloud" -s q -l quiet -d 'Say nothing but data, warnings and errors'
complete -c keadm -n "__fish_keadm_using_subcommand restore; and __fish_seen_subcommand_from cloud" -s v -d 'Log more; repeat for even more'
complete -c keadm -n "__fish_keadm_using_subcommand restore; and __fish_seen_subcommand_from cloud" -l ascii -d 'Write `ok`, `FAIL` and `warn` instead of symbols'
complete -c keadm -n "__fish_keadm_using_subcommand restore; and __fish_seen_subcommand_from cloud" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c keadm -n "__fish_keadm_using_subcommand manifest" -l advertise-address -d 'Addresses that edges dial; they go into cloudcore\'s certificate' -r
complete -c keadm -n "__fish_keadm_using_subcommand manifest" -l set -d 'A setting of cloudcore.yaml, in Helm\'s syntax' -r
complete -c keadm -n "__fish_keadm_using_subcommand manifest" -l v -d 'The verbosity as KubeEdge writes it' -r
complete -c keadm -n "__fish_keadm_using_subcommand manifest" -l log-format -d 'The log lines of the programs run by this command' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c keadm -n "__fish_keadm_using_subcommand manifest" -l color -d 'When to use colour; `NO_COLOR` is heeded' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c keadm -n "__fish_keadm_using_subcommand manifest" -l progress -d 'How steps are shown' -r -f -a "auto\t'A moving line on a terminal, plain lines otherwise'
plain\t'One line per step when it ends'
jsonl\t'One JSON object per event, on standard output'
none\t'Nothing'"
complete -c keadm -n "__fish_keadm_using_subcommand manifest" -l root -d 'The folder below which the installation lies' -r
complete -c keadm -n "__fish_keadm_using_subcommand manifest" -l skip-crds -d 'Leave out the definitions of KubeEdge\'s kinds'
complete -c keadm -n "__fish_keadm_using_subcommand manifest" -s q -l quiet -d 'Say nothing but data, warnings and errors'
complete -c keadm -n "__fish_keadm_using_subcommand manifest" -s v -d 'Log more; repeat for even more'
complete -c keadm -n "__fish_keadm_using_subcommand manifest" -l ascii -d 'Write `ok`, `FAIL` and `warn` instead of symbols'
complete -c keadm -n "__fish_keadm_using_subcommand manifest" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c keadm -n "__fish_keadm_using_subcommand config; and not __fish_seen_subcommand_from default minimal check" -l v -d 'The verbosity as KubeEdge writes it' -r
complete -c keadm -n "__fish_keadm_using_subcommand config; and not __fish_seen_subcommand_from default minimal check" -l log-format -d 'The log lines of the programs run by this command' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c keadm -n "__fish_keadm_using_subcommand config; and not __fish_seen_subcommand_from default minimal check" -l color -d 'When to use colour; `NO_COLOR` is heeded' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c keadm -n "__fish_keadm_using_subcommand config; and not __fish_seen_subcommand_from default minimal check" -l progress -d 'How steps are shown' -r -f -a "auto\t'A moving line on a terminal, plain lines otherwise'
plain\t'One line per step when it ends'
jsonl\t'One JSON object per event, on standard output'
none\t'Nothing'"
complete -c keadm -n "__fish_keadm_using_subcommand config; and not __fish_seen_subcommand_from default minimal check" -l root -d 'The folder below which the installation lies' -r
complete -c keadm -n "__fish_keadm_using_subcommand config; and not __fish_seen_subcommand_from default minimal check" -s q -l quiet -d 'Say nothing but data, warnings and errors'
complete -c keadm -n "__fish_keadm_using_subcommand config; and not __fish_seen_subcommand_from default minimal check" -s v -d 'Log more; repeat for even more'
complete -c keadm -n "__fish_keadm_using_subcommand config; and not __fish_seen_subcommand_from default minimal check" -l ascii -d 'Write `ok`, `FAIL` and `warn` instead of symbols'
complete -c keadm -n "__fish_keadm_using_subcommand config; and not __fish_seen_subcommand_from default minimal check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c keadm -n "__fish_keadm_using_subcommand config; and not __fish_seen_subcommand_from default minimal check" -f -a "default" -d 'Print the configuration with all its defaults'
complete -c keadm -n "__fish_keadm_using_subcommand config; and not __fish_seen_subcommand_from default minimal check" -f -a "minimal" -d 'Print the part of the configuration that somebody starting out needs'
complete -c keadm -n "__fish_keadm_using_subcommand config; and not __fish_seen_subcommand_from default minimal check" -f -a "check" -d 'Check a file: all that is wrong with it, and what in it changes nothing'
complete -c keadm -n "__fish_keadm_using_subcommand config; and __fish_seen_subcommand_from default" -l v -d 'The verbosity as KubeEdge writes it' -r
complete -c keadm -n "__fish_keadm_using_subcommand config; and __fish_seen_subcommand_from default" -l log-format -d 'The log lines of the programs run by this command' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c keadm -n "__fish_keadm_using_subcommand config; and __fish_seen_subcommand_from default" -l color -d 'When to use colour; `NO_COLOR` is heeded' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c keadm -n "__fish_keadm_using_subcommand config; and __fish_seen_subcommand_from default" -l progress -d 'How steps are shown' -r -f -a "auto\t'A moving line on a terminal, plain lines otherwise'
plain\t'One line per step when it ends'
jsonl\t'One JSON object per event, on standard output'
none\t'Nothing'"
complete -c keadm -n "__fish_keadm_using_subcommand config; and __fish_seen_subcommand_from default" -l root -d 'The folder below which the installation lies' -r
complete -c keadm -n "__fish_keadm_using_subcommand config; and __fish_seen_subcommand_from default" -s q -l quiet -d 'Say nothing but data, warnings and errors'
complete -c keadm -n "__fish_keadm_using_subcommand config; and __fish_seen_subcommand_from default" -s v -d 'Log more; repeat for even more'
complete -c keadm -n "__fish_keadm_using_subcommand config; and __fish_seen_subcommand_from default" -l ascii -d 'Write `ok`, `FAIL` and `warn` instead of symbols'
complete -c keadm -n "__fish_keadm_using_subcommand config; and __fish_seen_subcommand_from default" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c keadm -n "__fish_keadm_using_subcommand config; and __fish_seen_subcommand_from minimal" -l v -d 'The verbosity as KubeEdge writes it' -r
complete -c keadm -n "__fish_keadm_using_subcommand config; and __fish_seen_subcommand_from minimal" -l log-format -d 'The log lines of the programs run by this command' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c keadm -n "__fish_keadm_using_subcommand config; and __fish_seen_subcommand_from minimal" -l color -d 'When to use colour; `NO_COLOR` is heeded' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c keadm -n "__fish_keadm_using_subcommand config; and __fish_seen_subcommand_from minimal" -l progress -d 'How steps are shown' -r -f -a "auto\t'A moving line on a terminal, plain lines otherwise'
plain\t'One line per step when it ends'
jsonl\t'One JSON object per event, on standard output'
none\t'Nothing'"
complete -c keadm -n "__fish_keadm_using_subcommand config; and __fish_seen_subcommand_from minimal" -l root -d 'The folder below which the installation lies' -r
complete -c keadm -n "__fish_keadm_using_subcommand config; and __fish_seen_subcommand_from minimal" -s q -l quiet -d 'Say nothing but data, warnings and errors'
complete -c keadm -n "__fish_keadm_using_subcommand config; and __fish_seen_subcommand_from minimal" -s v -d 'Log more; repeat for even more'
complete -c keadm -n "__fish_keadm_using_subcommand config; and __fish_seen_subcommand_from minimal" -l ascii -d 'Write `ok`, `FAIL` and `warn` instead of symbols'
complete -c keadm -n "__fish_keadm_using_subcommand config; and __fish_seen_subcommand_from minimal" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c keadm -n "__fish_keadm_using_subcommand config; and __fish_seen_subcommand_from check" -l v -d 'The verbosity as KubeEdge writes it' -r
complete -c keadm -n "__fish_keadm_using_subcommand config; and __fish_seen_subcommand_from check" -l log-format -d 'The log lines of the programs run by this command' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c keadm -n "__fish_keadm_using_subcommand config; and __fish_seen_subcommand_from check" -l color -d 'When to use colour; `NO_COLOR` is heeded' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c keadm -n "__fish_keadm_using_subcommand config; and __fish_seen_subcommand_from check" -l progress -d 'How steps are shown' -r -f -a "auto\t'A moving line on a terminal, plain lines otherwise'
plain\t'One line per step when it ends'
jsonl\t'One JSON object per event, on standard output'
none\t'Nothing'"
complete -c keadm -n "__fish_keadm_using_subcommand config; and __fish_seen_subcommand_from check" -l root -d 'The folder below which the installation lies' -r
complete -c keadm -n "__fish_keadm_using_subcommand config; and __fish_seen_subcommand_from check" -s q -l quiet -d 'Say nothing but data, warnings and errors'
complete -c keadm -n "__fish_keadm_using_subcommand config; and __fish_seen_subcommand_from check" -s v -d 'Log more; repeat for even more'
complete -c keadm -n "__fish_keadm_using_subcommand config; and __fish_seen_subcommand_from check" -l ascii -d 'Write `ok`, `FAIL` and `warn` instead of symbols'
complete -c keadm -n "__fish_keadm_using_subcommand config; and __fish_seen_subcommand_from check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c keadm -n "__fish_keadm_using_subcommand dashboard" -l endpoint -d 'The socket of the status stream' -r
complete -c keadm -n "__fish_keadm_using_subcommand dashboard" -l record -d 'Write what comes to this file, for `--replay`' -r
complete -c keadm -n "__fish_keadm_using_subcommand dashboard" -l replay -d 'Play a recording instead' -r
complete -c keadm -n "__fish_keadm_using_subcommand dashboard" -l theme -d 'The colours; `NO_COLOR` means `plain`' -r -f -a "dark\t'For a dark background'
light\t'For a light background'
plain\t'Bold, dim and reverse only'"
complete -c keadm -n "__fish_keadm_using_subcommand dashboard" -l v -d 'The verbosity as KubeEdge writes it' -r
complete -c keadm -n "__fish_keadm_using_subcommand dashboard" -l log-format -d 'The log lines of the programs run by this command' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c keadm -n "__fish_keadm_using_subcommand dashboard" -l color -d 'When to use colour; `NO_COLOR` is heeded' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c keadm -n "__fish_keadm_using_subcommand dashboard" -l progress -d 'How steps are shown' -r -f -a "auto\t'A moving line on a terminal, plain lines otherwise'
plain\t'One line per step when it ends'
jsonl\t'One JSON object per event, on standard output'
none\t'Nothing'"
complete -c keadm -n "__fish_keadm_using_subcommand dashboard" -l root -d 'The folder below which the installation lies' -r
complete -c keadm -n "__fish_keadm_using_subcommand dashboard" -l no-mouse -d 'Leave the mouse to the terminal, for selecting text'
complete -c keadm -n "__fish_keadm_using_subcommand dashboard" -s q -l quiet -d 'Say nothing but data, warnings and errors'
complete -c keadm -n "__fish_keadm_using_subcommand dashboard" -s v -d 'Log more; repeat for even more'
complete -c keadm -n "__fish_keadm_using_subcommand dashboard" -l ascii -d 'Write `ok`, `FAIL` and `warn` instead of symbols'
complete -c keadm -n "__fish_keadm_using_subcommand dashboard" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c keadm -n "__fish_keadm_using_subcommand device; and not __fish_seen_subcommand_from set" -l v -d 'The verbosity as KubeEdge writes it' -r
complete -c keadm -n "__fish_keadm_using_subcommand device; and not __fish_seen_subcommand_from set" -l log-format -d 'The log lines of the programs run by this command' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c keadm -n "__fish_keadm_using_subcommand device; and not __fish_seen_subcommand_from set" -l color -d 'When to use colour; `NO_COLOR` is heeded' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c keadm -n "__fish_keadm_using_subcommand device; and not __fish_seen_subcommand_from set" -l progress -d 'How steps are shown' -r -f -a "auto\t'A moving line on a terminal, plain lines otherwise'
plain\t'One line per step when it ends'
jsonl\t'One JSON object per event, on standard output'
none\t'Nothing'"
complete -c keadm -n "__fish_keadm_using_subcommand device; and not __fish_seen_subcommand_from set" -l root -d 'The folder below which the installation lies' -r
complete -c keadm -n "__fish_keadm_using_subcommand device; and not __fish_seen_subcommand_from set" -s q -l quiet -d 'Say nothing but data, warnings and errors'
complete -c keadm -n "__fish_keadm_using_subcommand device; and not __fish_seen_subcommand_from set" -s v -d 'Log more; repeat for even more'
complete -c keadm -n "__fish_keadm_using_subcommand device; and not __fish_seen_subcommand_from set" -l ascii -d 'Write `ok`, `FAIL` and `warn` instead of symbols'
complete -c keadm -n "__fish_keadm_using_subcommand device; and not __fish_seen_subcommand_from set" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c keadm -n "__fish_keadm_using_subcommand device; and not __fish_seen_subcommand_from set" -f -a "set" -d 'Set desired values of a device\'s properties'
complete -c keadm -n "__fish_keadm_using_subcommand device; and __fish_seen_subcommand_from set" -s n -l namespace -d 'The namespace of the device' -r
complete -c keadm -n "__fish_keadm_using_subcommand device; and __fish_seen_subcommand_from set" -l timeout -d 'How long `--wait` waits' -r
complete -c keadm -n "__fish_keadm_using_subcommand device; and __fish_seen_subcommand_from set" -s o -l output -d 'The form of the result' -r -f -a "json\t'A documented shape that scripts can rely on'"
complete -c keadm -n "__fish_keadm_using_subcommand device; and __fish_seen_subcommand_from set" -l kube-config -l kubeconfig -d 'The kubeconfig to use [default: ~/.kube/config, else that of `keadm init --embedded`]' -r
complete -c keadm -n "__fish_keadm_using_subcommand device; and __fish_seen_subcommand_from set" -l v -d 'The verbosity as KubeEdge writes it' -r
complete -c keadm -n "__fish_keadm_using_subcommand device; and __fish_seen_subcommand_from set" -l log-format -d 'The log lines of the programs run by this command' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c keadm -n "__fish_keadm_using_subcommand device; and __fish_seen_subcommand_from set" -l color -d 'When to use colour; `NO_COLOR` is heeded' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c keadm -n "__fish_keadm_using_subcommand device; and __fish_seen_subcommand_from set" -l progress -d 'How steps are shown' -r -f -a "auto\t'A moving line on a terminal, plain lines otherwise'
plain\t'One line per step when it ends'
jsonl\t'One JSON object per event, on standard output'
none\t'Nothing'"
complete -c keadm -n "__fish_keadm_using_subcommand device; and __fish_seen_subcommand_from set" -l root -d 'The folder below which the installation lies' -r
complete -c keadm -n "__fish_keadm_using_subcommand device; and __fish_seen_subcommand_from set" -s w -l wait -d 'Wait until the device reports the values'
complete -c keadm -n "__fish_keadm_using_subcommand device; and __fish_seen_subcommand_from set" -l dry-run -d 'Check everything, and change nothing'
complete -c keadm -n "__fish_keadm_using_subcommand device; and __fish_seen_subcommand_from set" -s q -l quiet -d 'Say nothing but data, warnings and errors'
complete -c keadm -n "__fish_keadm_using_subcommand device; and __fish_seen_subcommand_from set" -s v -d 'Log more; repeat for even more'
complete -c keadm -n "__fish_keadm_using_subcommand device; and __fish_seen_subcommand_from set" -l ascii -d 'Write `ok`, `FAIL` and `warn` instead of symbols'
complete -c keadm -n "__fish_keadm_using_subcommand device; and __fish_seen_subcommand_from set" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c keadm -n "__fish_keadm_using_subcommand admission" -l kube-config -l kubeconfig -d 'The kubeconfig to use [default: ~/.kube/config, else that of `keadm init --embedded`]' -r
complete -c keadm -n "__fish_keadm_using_subcommand admission" -l address -d 'The address to listen on' -r
complete -c keadm -n "__fish_keadm_using_subcommand admission" -l port -d 'The port to listen on' -r
complete -c keadm -n "__fish_keadm_using_subcommand admission" -l advertise -d 'The name or address by which the API server reaches this machine, instead of a Service' -r
complete -c keadm -n "__fish_keadm_using_subcommand admission" -l webhook-namespace -d 'The namespace of the Service that leads here' -r
complete -c keadm -n "__fish_keadm_using_subcommand admission" -l webhook-service-name -d 'The name of the Service that leads here' -r
complete -c keadm -n "__fish_keadm_using_subcommand admission" -l tls-cert-file -d 'The certificate, as PEM [default: made at start]' -r
complete -c keadm -n "__fish_keadm_using_subcommand admission" -l tls-private-key-file -d 'Its key, as PEM' -r
complete -c keadm -n "__fish_keadm_using_subcommand admission" -l ca-cert-file -d 'The CA that has signed the certificate, as PEM' -r
complete -c keadm -n "__fish_keadm_using_subcommand admission" -l v -d 'The verbosity as KubeEdge writes it' -r
complete -c keadm -n "__fish_keadm_using_subcommand admission" -l log-format -d 'The log lines of the programs run by this command' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c keadm -n "__fish_keadm_using_subcommand admission" -l color -d 'When to use colour; `NO_COLOR` is heeded' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c keadm -n "__fish_keadm_using_subcommand admission" -l progress -d 'How steps are shown' -r -f -a "auto\t'A moving line on a terminal, plain lines otherwise'
plain\t'One line per step when it ends'
jsonl\t'One JSON object per event, on standard output'
none\t'Nothing'"
complete -c keadm -n "__fish_keadm_using_subcommand admission" -l root -d 'The folder below which the installation lies' -r
complete -c keadm -n "__fish_keadm_using_subcommand admission" -s q -l quiet -d 'Say nothing but data, warnings and errors'
complete -c keadm -n "__fish_keadm_using_subcommand admission" -s v -d 'Log more; repeat for even more'
complete -c keadm -n "__fish_keadm_using_subcommand admission" -l ascii -d 'Write `ok`, `FAIL` and `warn` instead of symbols'
complete -c keadm -n "__fish_keadm_using_subcommand admission" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c keadm -n "__fish_keadm_using_subcommand cloudcore" -l config -d 'The configuration [default: /etc/kubeedge/config/cloudcore.yaml]' -r
complete -c keadm -n "__fish_keadm_using_subcommand cloudcore" -l status-socket -d 'Serve the status stream here, for `keadm dashboard` [default: /run/kubeedge/cloudcore-status.sock]' -r
complete -c keadm -n "__fish_keadm_using_subcommand cloudcore" -l admission -d 'Serve the admission webhook here, where the API server reaches it, and register it' -r
complete -c keadm -n "__fish_keadm_using_subcommand cloudcore" -l v -d 'The verbosity as KubeEdge writes it' -r
complete -c keadm -n "__fish_keadm_using_subcommand cloudcore" -l log-format -d 'The log lines of the programs run by this command' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c keadm -n "__fish_keadm_using_subcommand cloudcore" -l color -d 'When to use colour; `NO_COLOR` is heeded' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c keadm -n "__fish_keadm_using_subcommand cloudcore" -l progress -d 'How steps are shown' -r -f -a "auto\t'A moving line on a terminal, plain lines otherwise'
plain\t'One line per step when it ends'
jsonl\t'One JSON object per event, on standard output'
none\t'Nothing'"
complete -c keadm -n "__fish_keadm_using_subcommand cloudcore" -l root -d 'The folder below which the installation lies' -r
complete -c keadm -n "__fish_keadm_using_subcommand cloudcore" -l minconfig -d 'Print the part of the configuration that somebody starting out needs'
complete -c keadm -n "__fish_keadm_using_subcommand cloudcore" -l defaultconfig -d 'Print the configuration with all its defaults'
complete -c keadm -n "__fish_keadm_using_subcommand cloudcore" -l version -d 'Print the version'
complete -c keadm -n "__fish_keadm_using_subcommand cloudcore" -s q -l quiet -d 'Say nothing but data, warnings and errors'
complete -c keadm -n "__fish_keadm_using_subcommand cloudcore" -s v -d 'Log more; repeat for even more'
complete -c keadm -n "__fish_keadm_using_subcommand cloudcore" -l ascii -d 'Write `ok`, `FAIL` and `warn` instead of symbols'
complete -c keadm -n "__fish_keadm_using_subcommand cloudcore" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c keadm -n "__fish_keadm_using_subcommand edgecore" -l config -d 'The configuration [default: /etc/kubeedge/config/edgecore.yaml]' -r
complete -c keadm -n "__fish_keadm_using_subcommand edgecore" -l v -d 'The verbosity as KubeEdge writes it' -r
complete -c keadm -n "__fish_keadm_using_subcommand edgecore" -l log-format -d 'The log lines of the programs run by this command' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c keadm -n "__fish_keadm_using_subcommand edgecore" -l color -d 'When to use colour; `NO_COLOR` is heeded' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c keadm -n "__fish_keadm_using_subcommand edgecore" -l progress -d 'How steps are shown' -r -f -a "auto\t'A moving line on a terminal, plain lines otherwise'
plain\t'One line per step when it ends'
jsonl\t'One JSON object per event, on standard output'
none\t'Nothing'"
complete -c keadm -n "__fish_keadm_using_subcommand edgecore" -l root -d 'The folder below which the installation lies' -r
complete -c keadm -n "__fish_keadm_using_subcommand edgecore" -l minconfig -d 'Print the part of the configuration that somebody starting out needs'
complete -c keadm -n "__fish_keadm_using_subcommand edgecore" -l defaultconfig -d 'Print the configuration with all its defaults'
complete -c keadm -n "__fish_keadm_using_subcommand edgecore" -l version -d 'Print the version'
complete -c keadm -n "__fish_keadm_using_subcommand edgecore" -s q -l quiet -d 'Say nothing but data, warnings and errors'
complete -c keadm -n "__fish_keadm_using_subcommand edgecore" -s v -d 'Log more; repeat for even more'
complete -c keadm -n "__fish_keadm_using_subcommand edgecore" -l ascii -d 'Write `ok`, `FAIL` and `warn` instead of symbols'
complete -c keadm -n "__fish_keadm_using_subcommand edgecore" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c keadm -n "__fish_keadm_using_subcommand mapper" -l dmi-socket -d 'edgecore\'s socket for mappers' -r
complete -c keadm -n "__fish_keadm_using_subcommand mapper" -l socket -d 'The mapper\'s own socket [default: NAME.sock beside edgecore\'s]' -r
complete -c keadm -n "__fish_keadm_using_subcommand mapper" -l name -d 'The mapper\'s name' -r
complete -c keadm -n "__fish_keadm_using_subcommand mapper" -l protocol -d 'The protocol of its devices' -r
complete -c keadm -n "__fish_keadm_using_subcommand mapper" -l v -d 'The verbosity as KubeEdge writes it' -r
complete -c keadm -n "__fish_keadm_using_subcommand mapper" -l log-format -d 'The log lines of the programs run by this command' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c keadm -n "__fish_keadm_using_subcommand mapper" -l color -d 'When to use colour; `NO_COLOR` is heeded' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c keadm -n "__fish_keadm_using_subcommand mapper" -l progress -d 'How steps are shown' -r -f -a "auto\t'A moving line on a terminal, plain lines otherwise'
plain\t'One line per step when it ends'
jsonl\t'One JSON object per event, on standard output'
none\t'Nothing'"
complete -c keadm -n "__fish_keadm_using_subcommand mapper" -l root -d 'The folder below which the installation lies' -r
complete -c keadm -n "__fish_keadm_using_subcommand mapper" -l simulate -d 'Play virtual devices'
complete -c keadm -n "__fish_keadm_using_subcommand mapper" -s q -l quiet -d 'Say nothing but data, warnings and errors'
complete -c keadm -n "__fish_keadm_using_subcommand mapper" -s v -d 'Log more; repeat for even more'
complete -c keadm -n "__fish_keadm_using_subcommand mapper" -l ascii -d 'Write `ok`, `FAIL` and `warn` instead of symbols'
complete -c keadm -n "__fish_keadm_using_subcommand mapper" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c keadm -n "__fish_keadm_using_subcommand control-plane" -l data-dir -d 'Where it keeps its data [default: /var/lib/kubeedge/control-plane]' -r
complete -c keadm -n "__fish_keadm_using_subcommand control-plane" -l port -d 'Where it listens' -r
complete -c keadm -n "__fish_keadm_using_subcommand control-plane" -l advertise-address -d 'Addresses and names by which it is reached; they go into its certificate' -r
complete -c keadm -n "__fish_keadm_using_subcommand control-plane" -l kubeconfig -d 'A file to write the administrator\'s kubeconfig to' -r
complete -c keadm -n "__fish_keadm_using_subcommand control-plane" -l v -d 'The verbosity as KubeEdge writes it' -r
complete -c keadm -n "__fish_keadm_using_subcommand control-plane" -l log-format -d 'The log lines of the programs run by this command' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c keadm -n "__fish_keadm_using_subcommand control-plane" -l color -d 'When to use colour; `NO_COLOR` is heeded' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c keadm -n "__fish_keadm_using_subcommand control-plane" -l progress -d 'How steps are shown' -r -f -a "auto\t'A moving line on a terminal, plain lines otherwise'
plain\t'One line per step when it ends'
jsonl\t'One JSON object per event, on standard output'
none\t'Nothing'"
complete -c keadm -n "__fish_keadm_using_subcommand control-plane" -l root -d 'The folder below which the installation lies' -r
complete -c keadm -n "__fish_keadm_using_subcommand control-plane" -s q -l quiet -d 'Say nothing but data, warnings and errors'
complete -c keadm -n "__fish_keadm_using_subcommand control-plane" -s v -d 'Log more; repeat for even more'
complete -c keadm -n "__fish_keadm_using_subcommand control-plane" -l ascii -d 'Write `ok`, `FAIL` and `warn` instead of symbols'
complete -c keadm -n "__fish_keadm_using_subcommand control-plane" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c keadm -n "__fish_keadm_using_subcommand version" -s o -l output -d 'The form; without it, one line for people' -r -f -a "yaml\t'All fields'
json\t'All fields'
short\t'Only the version'"
complete -c keadm -n "__fish_keadm_using_subcommand version" -l v -d 'The verbosity as KubeEdge writes it' -r
complete -c keadm -n "__fish_keadm_using_subcommand version" -l log-format -d 'The log lines of the programs run by this command' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c keadm -n "__fish_keadm_using_subcommand version" -l color -d 'When to use colour; `NO_COLOR` is heeded' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c keadm -n "__fish_keadm_using_subcommand version" -l progress -d 'How steps are shown' -r -f -a "auto\t'A moving line on a terminal, plain lines otherwise'
plain\t'One line per step when it ends'
jsonl\t'One JSON object per event, on standard output'
none\t'Nothing'"
complete -c keadm -n "__fish_keadm_using_subcommand version" -l root -d 'The folder below which the installation lies' -r
complete -c keadm -n "__fish_keadm_using_subcommand version" -s q -l quiet -d 'Say nothing but data, warnings and errors'
complete -c keadm -n "__fish_keadm_using_subcommand version" -s v -d 'Log more; repeat for even more'
complete -c keadm -n "__fish_keadm_using_subcommand version" -l ascii -d 'Write `ok`, `FAIL` and `warn` instead of symbols'
complete -c keadm -n "__fish_keadm_using_subcommand version" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c keadm -n "__fish_keadm_using_subcommand completion" -l v -d 'The verbosity as KubeEdge writes it' -r
complete -c keadm -n "__fish_keadm_using_subcommand completion" -l log-format -d 'The log lines of the programs run by this command' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c keadm -n "__fish_keadm_using_subcommand completion" -l color -d 'When to use colour; `NO_COLOR` is heeded' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c keadm -n "__fish_keadm_using_subcommand completion" -l progress -d 'How steps are shown' -r -f -a "auto\t'A moving line on a terminal, plain lines otherwise'
plain\t'One line per step when it ends'
jsonl\t'One JSON object per event, on standard output'
none\t'Nothing'"
complete -c keadm -n "__fish_keadm_using_subcommand completion" -l root -d 'The folder below which the installation lies' -r
complete -c keadm -n "__fish_keadm_using_subcommand completion" -s q -l quiet -d 'Say nothing but data, warnings and errors'
complete -c keadm -n "__fish_keadm_using_subcommand completion" -s v -d 'Log more; repeat for even more'
complete -c keadm -n "__fish_keadm_using_subcommand completion" -l ascii -d 'Write `ok`, `FAIL` and `warn` instead of symbols'
complete -c keadm -n "__fish_keadm_using_subcommand completion" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c keadm -n "__fish_keadm_using_subcommand help" -l v -d 'The verbosity as KubeEdge writes it' -r
complete -c keadm -n "__fish_keadm_using_subcommand help" -l log-format -d 'The log lines of the programs run by this command' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c keadm -n "__fish_keadm_using_subcommand help" -l color -d 'When to use colour; `NO_COLOR` is heeded' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c keadm -n "__fish_keadm_using_subcommand help" -l progress -d 'How steps are shown' -r -f -a "auto\t'A moving line on a terminal, plain lines otherwise'
plain\t'One line per step when it ends'
jsonl\t'One JSON object per event, on standard output'
none\t'Nothing'"
complete -c keadm -n "__fish_keadm_using_subcommand help" -l root -d 'The folder below which the installation lies' -r
complete -c keadm -n "__fish_keadm_using_subcommand help" -s q -l quiet -d 'Say nothing but data, warnings and errors'
complete -c keadm -n "__fish_keadm_using_subcommand help" -s v -d 'Log more; repeat for even more'
complete -c keadm -n "__fish_keadm_using_subcommand help" -l ascii -d 'Write `ok`, `FAIL` and `warn` instead of symbols'
complete -c keadm -n "__fish_keadm_using_subcommand help" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c keadm -n "__fish_keadm_using_subcommand supervise" -l v -d 'The verbosity as KubeEdge writes it' -r
complete -c keadm -n "__fish_keadm_using_subcommand supervise" -l log-format -d 'The log lines of the programs run by this command' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c keadm -n "__fish_keadm_using_subcommand supervise" -l color -d 'When to use colour; `NO_COLOR` is heeded' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c keadm -n "__fish_keadm_using_subcommand supervise" -l progress -d 'How steps are shown' -r -f -a "auto\t'A moving line on a terminal, plain lines otherwise'
plain\t'One line per step when it ends'
jsonl\t'One JSON object per event, on standard output'
none\t'Nothing'"
complete -c keadm -n "__fish_keadm_using_subcommand supervise" -l root -d 'The folder below which the installation lies' -r
complete -c keadm -n "__fish_keadm_using_subcommand supervise" -s q -l quiet -d 'Say nothing but data, warnings and errors'
complete -c keadm -n "__fish_keadm_using_subcommand supervise" -s v -d 'Log more; repeat for even more'
complete -c keadm -n "__fish_keadm_using_subcommand supervise" -l ascii -d 'Write `ok`, `FAIL` and `warn` instead of symbols'
complete -c keadm -n "__fish_keadm_using_subcommand supervise" -s h -l help -d 'Print help (see more with \'--help\')'
