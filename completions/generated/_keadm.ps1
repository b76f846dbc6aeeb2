
using namespace System.Management.Automation
using namespace System.Management.Automation.Language

Register-ArgumentCompleter -Native -CommandName 'keadm' -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)

    $commandElements = $commandAst.CommandElements
    $command = @(
        'keadm'
        for ($i = 1; $i -lt $commandElements.Count; $i++) {
            $element = $commandElements[$i]
            if ($element -isnot [StringConstantExpressionAst] -or
                $element.StringConstantType -ne [StringConstantType]::BareWord -or
                $element.Value.StartsWith('-') -or
                $element.Value -eq $wordToComplete) {
                break
        }
        $element.Value
    }) -join ';'

    $completions = @(switch ($command) {
        'keadm' {
            [CompletionResult]::new('--v', '--v', [CompletionResultType]::ParameterName, 'The verbosity as KubeEdge writes it')
            [CompletionResult]::new('--log-format', '--log-format', [CompletionResultType]::ParameterName, 'The log lines of the programs run by this command')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour; `NO_COLOR` is heeded')
            [CompletionResult]::new('--progress', '--progress', [CompletionResultType]::ParameterName, 'How steps are shown')
            [CompletionResult]::new('--root', '--root', [CompletionResultType]::ParameterName, 'The folder below which the installation lies')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Log more; repeat for even more')
            [CompletionResult]::new('--ascii', '--ascii', [CompletionResultType]::ParameterName, 'Write `ok`, `FAIL` and `warn` instead of symbols')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('join', 'join', [CompletionResultType]::ParameterValue, 'Make this machine an edge node')
            [CompletionResult]::new('check', 'check', [CompletionResultType]::ParameterValue, 'Check this machine, and the cloud or edge side on it')
            [CompletionResult]::new('reset', 'reset', [CompletionResultType]::ParameterValue, 'Remove what `init` or `join` has made on this machine, and nothing else')
            [CompletionResult]::new('config', 'config', [CompletionResultType]::ParameterValue, 'Print or check configuration files')
            [CompletionResult]::new('edgecore', 'edgecore', [CompletionResultType]::ParameterValue, 'Run the edge half in the foreground')
            [CompletionResult]::new('version', 'version', [CompletionResultType]::ParameterValue, 'Print the version')
            [CompletionResult]::new('completion', 'completion', [CompletionResultType]::ParameterValue, 'Print the completion script of a shell')
            [CompletionResult]::new('help', 'help', [CompletionResultType]::ParameterValue, 'Print the help of a command, or of a topic: `exit-codes`')
            [CompletionResult]::new('supervise', 'supervise', [CompletionResultType]::ParameterValue, 'Run an installed service and start it again whenever it ends')
            break
        }
        'keadm;join' {
            [CompletionResult]::new('-e', '-e', [CompletionResultType]::ParameterName, 'Address and port of cloudcore''s message link')
            [CompletionResult]::new('--cloudcore-ipport', '--cloudcore-ipport', [CompletionResultType]::ParameterName, 'Address and port of cloudcore''s message link')
            [CompletionResult]::new('-t', '-t', [CompletionResultType]::ParameterName, 'What `keadm gettoken` printed on the cloud side; better given in the environment')
            [CompletionResult]::new('--token', '--token', [CompletionResultType]::ParameterName, 'What `keadm gettoken` printed on the cloud side; better given in the environment')
            [CompletionResult]::new('-i', '-i', [CompletionResultType]::ParameterName, 'The node''s name [default: the host name]')
            [CompletionResult]::new('--edgenode-name', '--edgenode-name', [CompletionResultType]::ParameterName, 'The node''s name [default: the host name]')
            [CompletionResult]::new('-s', '-s', [CompletionResultType]::ParameterName, 'Port of cloudcore''s certificate service')
            [CompletionResult]::new('--certport', '--certport', [CompletionResultType]::ParameterName, 'Port of cloudcore''s certificate service')
            [CompletionResult]::new('-p', '-p', [CompletionResultType]::ParameterName, 'Socket of the container runtime, or `embedded` for our own [default: containerd''s socket if it is there, else `embedded`]')
            [CompletionResult]::new('--remote-runtime-endpoint', '--remote-runtime-endpoint', [CompletionResultType]::ParameterName, 'Socket of the container runtime, or `embedded` for our own [default: containerd''s socket if it is there, else `embedded`]')
            [CompletionResult]::new('--cgroupdriver', '--cgroupdriver', [CompletionResultType]::ParameterName, 'Who manages cgroups')
            [CompletionResult]::new('--hub-protocol', '--hub-protocol', [CompletionResultType]::ParameterName, 'The protocol of the link')
            [CompletionResult]::new('-l', '-l', [CompletionResultType]::ParameterName, 'Labels of the node: `key=value,key2=value2`')
            [CompletionResult]::new('--labels', '--labels', [CompletionResultType]::ParameterName, 'Labels of the node: `key=value,key2=value2`')
            [CompletionResult]::new('--set', '--set', [CompletionResultType]::ParameterName, 'A setting of edgecore.yaml, in Helm''s syntax: `modules.edgeStream.enable=true`')
            [CompletionResult]::new('--skip-phases', '--skip-phases', [CompletionResultType]::ParameterName, 'Phases to leave out')
            [CompletionResult]::new('--ignore-preflight-errors', '--ignore-preflight-errors', [CompletionResultType]::ParameterName, 'Checks whose failure is only a warning; `all` for all')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'How long to wait for the node')
            [CompletionResult]::new('--certPath', '--certPath', [CompletionResultType]::ParameterName, 'certPath')
            [CompletionResult]::new('--tarballpath', '--tarballpath', [CompletionResultType]::ParameterName, 'tarballpath')
            [CompletionResult]::new('--kubeedge-version', '--kubeedge-version', [CompletionResultType]::ParameterName, 'kubeedge-version')
            [CompletionResult]::new('--image-repository', '--image-repository', [CompletionResultType]::ParameterName, 'image-repository')
            [CompletionResult]::new('--v', '--v', [CompletionResultType]::ParameterName, 'The verbosity as KubeEdge writes it')
            [CompletionResult]::new('--log-format', '--log-format', [CompletionResultType]::ParameterName, 'The log lines of the programs run by this command')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour; `NO_COLOR` is heeded')
            [CompletionResult]::new('--progress', '--progress', [CompletionResultType]::ParameterName, 'How steps are shown')
            [CompletionResult]::new('--root', '--root', [CompletionResultType]::ParameterName, 'The folder below which the installation lies')
            [CompletionResult]::new('--dry-run', '--dry-run', [CompletionResultType]::ParameterName, 'Only show what would be done')
            [CompletionResult]::new('--clean', '--clean', [CompletionResultType]::ParameterName, 'Remove what an earlier join has left behind first')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Log more; repeat for even more')
            [CompletionResult]::new('--ascii', '--ascii', [CompletionResultType]::ParameterName, 'Write `ok`, `FAIL` and `warn` instead of symbols')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('phase', 'phase', [CompletionResultType]::ParameterValue, 'Run one phase; without a name, list them')
            break
        }
        'keadm;join;phase' {
            [CompletionResult]::new('-e', '-e', [CompletionResultType]::ParameterName, 'Address and port of cloudcore''s message link')
            [CompletionResult]::new('--cloudcore-ipport', '--cloudcore-ipport', [CompletionResultType]::ParameterName, 'Address and port of cloudcore''s message link')
            [CompletionResult]::new('-t', '-t', [CompletionResultType]::ParameterName, 'What `keadm gettoken` printed on the cloud side; better given in the environment')
            [CompletionResult]::new('--token', '--token', [CompletionResultType]::ParameterName, 'What `keadm gettoken` printed on the cloud side; better given in the environment')
            [CompletionResult]::new('-i', '-i', [CompletionResultType]::ParameterName, 'The node''s name [default: the host name]')
            [CompletionResult]::new('--edgenode-name', '--edgenode-name', [CompletionResultType]::ParameterName, 'The node''s name [default: the host name]')
            [CompletionResult]::new('-s', '-s', [CompletionResultType]::ParameterName, 'Port of cloudcore''s certificate service')
            [CompletionResult]::new('--certport', '--certport', [CompletionResultType]::ParameterName, 'Port of cloudcore''s certificate service')
            [CompletionResult]::new('-p', '-p', [CompletionResultType]::ParameterName, 'Socket of the container runtime, or `embedded` for our own [default: containerd''s socket if it is there, else `embedded`]')
            [CompletionResult]::new('--remote-runtime-endpoint', '--remote-runtime-endpoint', [CompletionResultType]::ParameterName, 'Socket of the container runtime, or `embedded` for our own [default: containerd''s socket if it is there, else `embedded`]')
            [CompletionResult]::new('--cgroupdriver', '--cgroupdriver', [CompletionResultType]::ParameterName, 'Who manages cgroups')
            [CompletionResult]::new('--hub-protocol', '--hub-protocol', [CompletionResultType]::ParameterName, 'The protocol of the link')
            [CompletionResult]::new('-l', '-l', [CompletionResultType]::ParameterName, 'Labels of the node: `key=value,key2=value2`')
            [CompletionResult]::new('--labels', '--labels', [CompletionResultType]::ParameterName, 'Labels of the node: `key=value,key2=value2`')
            [CompletionResult]::new('--set', '--set', [CompletionResultType]::ParameterName, 'A setting of edgecore.yaml, in Helm''s syntax: `modules.edgeStream.enable=true`')
            [CompletionResult]::new('--skip-phases', '--skip-phases', [CompletionResultType]::ParameterName, 'Phases to leave out')
            [CompletionResult]::new('--ignore-preflight-errors', '--ignore-preflight-errors', [CompletionResultType]::ParameterName, 'Checks whose failure is only a warning; `all` for all')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'How long to wait for the node')
            [CompletionResult]::new('--certPath', '--certPath', [CompletionResultType]::ParameterName, 'certPath')
            [CompletionResult]::new('--tarballpath', '--tarballpath', [CompletionResultType]::ParameterName, 'tarballpath')
            [CompletionResult]::new('--kubeedge-version', '--kubeedge-version', [CompletionResultType]::ParameterName, 'kubeedge-version')
            [CompletionResult]::new('--image-repository', '--image-repository', [CompletionResultType]::ParameterName, 'image-repository')
            [CompletionResult]::new('--v', '--v', [CompletionResultType]::ParameterName, 'The verbosity as KubeEdge writes it')
            [CompletionResult]::new('--log-format', '--log-format', [CompletionResultType]::ParameterName, 'The log lines of the programs run by this command')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour; `NO_COLOR` is heeded')
            [CompletionResult]::new('--progress', '--progress', [CompletionResultType]::ParameterName, 'How steps are shown')
            [CompletionResult]::new('--root', '--root', [CompletionResultType]::ParameterName, 'The folder below which the installation lies')
            [CompletionResult]::new('--dry-run', '--dry-run', [CompletionResultType]::ParameterName, 'Only show what would be done')
            [CompletionResult]::new('--clean', '--clean', [CompletionResultType]::ParameterName, 'Remove what an earlier join has left behind first')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Log more; repeat for even more')
            [CompletionResult]::new('--ascii', '--ascii', [CompletionResultType]::ParameterName, 'Write `ok`, `FAIL` and `warn` instead of symbols')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'keadm;check' {
            [CompletionResult]::new('-o', '-o', [CompletionResultType]::ParameterName, 'The form of the result')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'The form of the result')
            [CompletionResult]::new('--kube-config', '--kube-config', [CompletionResultType]::ParameterName, 'The kubeconfig to use [default: ~/.kube/config, else that of `keadm init --embedded`]')
            [CompletionResult]::new('--kubeconfig', '--kubeconfig', [CompletionResultType]::ParameterName, 'The kubeconfig to use [default: ~/.kube/config, else that of `keadm init --embedded`]')
            [CompletionResult]::new('--v', '--v', [CompletionResultType]::ParameterName, 'The verbosity as KubeEdge writes it')
            [CompletionResult]::new('--log-format', '--log-format', [CompletionResultType]::ParameterName, 'The log lines of the programs run by this command')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour; `NO_COLOR` is heeded')
            [CompletionResult]::new('--progress', '--progress', [CompletionResultType]::ParameterName, 'How steps are shown')
            [CompletionResult]::new('--root', '--root', [CompletionResultType]::ParameterName, 'The folder below which the installation lies')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Log more; repeat for even more')
            [CompletionResult]::new('--ascii', '--ascii', [CompletionResultType]::ParameterName, 'Write `ok`, `FAIL` and `warn` instead of symbols')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'keadm;reset' {
            [CompletionResult]::new('--v', '--v', [CompletionResultType]::ParameterName, 'The verbosity as KubeEdge writes it')
            [CompletionResult]::new('--log-format', '--log-format', [CompletionResultType]::ParameterName, 'The log lines of the programs run by this command')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour; `NO_COLOR` is heeded')
            [CompletionResult]::new('--progress', '--progress', [CompletionResultType]::ParameterName, 'How steps are shown')
            [CompletionResult]::new('--root', '--root', [CompletionResultType]::ParameterName, 'The folder below which the installation lies')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Log more; repeat for even more')
            [CompletionResult]::new('--ascii', '--ascii', [CompletionResultType]::ParameterName, 'Write `ok`, `FAIL` and `warn` instead of symbols')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('cloud', 'cloud', [CompletionResultType]::ParameterValue, 'Stop cloudcore and remove what `keadm init` made')
            [CompletionResult]::new('edge', 'edge', [CompletionResultType]::ParameterValue, 'Stop edgecore and its containers and remove what `keadm join` made')
            break
        }
        'keadm;reset;cloud' {
            [CompletionResult]::new('--kube-config', '--kube-config', [CompletionResultType]::ParameterName, 'Also delete the namespace `kubeedge` in Kubernetes')
            [CompletionResult]::new('--remote-runtime-endpoint', '--remote-runtime-endpoint', [CompletionResultType]::ParameterName, 'remote-runtime-endpoint')
            [CompletionResult]::new('--v', '--v', [CompletionResultType]::ParameterName, 'The verbosity as KubeEdge writes it')
            [CompletionResult]::new('--log-format', '--log-format', [CompletionResultType]::ParameterName, 'The log lines of the programs run by this command')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour; `NO_COLOR` is heeded')
            [CompletionResult]::new('--progress', '--progress', [CompletionResultType]::ParameterName, 'How steps are shown')
            [CompletionResult]::new('--root', '--root', [CompletionResultType]::ParameterName, 'The folder below which the installation lies')
            [CompletionResult]::new('-y', '-y', [CompletionResultType]::ParameterName, 'Do not ask')
            [CompletionResult]::new('--force', '--force', [CompletionResultType]::ParameterName, 'Do not ask')
            [CompletionResult]::new('--yes', '--yes', [CompletionResultType]::ParameterName, 'Do not ask')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Log more; repeat for even more')
            [CompletionResult]::new('--ascii', '--ascii', [CompletionResultType]::ParameterName, 'Write `ok`, `FAIL` and `warn` instead of symbols')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'keadm;reset;edge' {
            [CompletionResult]::new('--kube-config', '--kube-config', [CompletionResultType]::ParameterName, 'Also delete the namespace `kubeedge` in Kubernetes')
            [CompletionResult]::new('--remote-runtime-endpoint', '--remote-runtime-endpoint', [CompletionResultType]::ParameterName, 'remote-runtime-endpoint')
            [CompletionResult]::new('--v', '--v', [CompletionResultType]::ParameterName, 'The verbosity as KubeEdge writes it')
            [CompletionResult]::new('--log-format', '--log-format', [CompletionResultType]::ParameterName, 'The log lines of the programs run by this command')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour; `NO_COLOR` is heeded')
            [CompletionResult]::new('--progress', '--progress', [CompletionResultType]::ParameterName, 'How steps are shown')
            [CompletionResult]::new('--root', '--root', [CompletionResultType]::ParameterName, 'The folder below which the installation lies')
            [CompletionResult]::new('-y', '-y', [CompletionResultType]::ParameterName, 'Do not ask')
            [CompletionResult]::new('--force', '--force', [CompletionResultType]::ParameterName, 'Do not ask')
            [CompletionResult]::new('--yes', '--yes', [CompletionResultType]::ParameterName, 'Do not ask')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Log more; repeat for even more')
            [CompletionResult]::new('--ascii', '--ascii', [CompletionResultType]::ParameterName, 'Write `ok`, `FAIL` and `warn` instead of symbols')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'keadm;config' {
            [CompletionResult]::new('--v', '--v', [CompletionResultType]::ParameterName, 'The verbosity as KubeEdge writes it')
            [CompletionResult]::new('--log-format', '--log-format', [CompletionResultType]::ParameterName, 'The log lines of the programs run by this command')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour; `NO_COLOR` is heeded')
            [CompletionResult]::new('--progress', '--progress', [CompletionResultType]::ParameterName, 'How steps are shown')
            [CompletionResult]::new('--root', '--root', [CompletionResultType]::ParameterName, 'The folder below which the installation lies')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Log more; repeat for even more')
            [CompletionResult]::new('--ascii', '--ascii', [CompletionResultType]::ParameterName, 'Write `ok`, `FAIL` and `warn` instead of symbols')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('default', 'default', [CompletionResultType]::ParameterValue, 'Print the configuration with all its defaults')
            [CompletionResult]::new('minimal', 'minimal', [CompletionResultType]::ParameterValue, 'Print the part of the configuration that somebody starting out needs')
            [CompletionResult]::new('check', 'check', [CompletionResultType]::ParameterValue, 'Check a file: all that is wrong with it, and what in it changes nothing')
            break
        }
        'keadm;config;default' {
            [CompletionResult]::new('--v', '--v', [CompletionResultType]::ParameterName, 'The verbosity as KubeEdge writes it')
            [CompletionResult]::new('--log-format', '--log-format', [CompletionResultType]::ParameterName, 'The log lines of the programs run by this command')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour; `NO_COLOR` is heeded')
            [CompletionResult]::new('--progress', '--progress', [CompletionResultType]::ParameterName, 'How steps are shown')
            [CompletionResult]::new('--root', '--root', [CompletionResultType]::ParameterName, 'The folder below which the installation lies')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Log more; repeat for even more')
            [CompletionResult]::new('--ascii', '--ascii', [CompletionResultType]::ParameterName, 'Write `ok`, `FAIL` and `warn` instead of symbols')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'keadm;config;minimal' {
            [CompletionResult]::new('--v', '--v', [CompletionResultType]::ParameterName, 'The verbosity as KubeEdge writes it')
            [CompletionResult]::new('--log-format', '--log-format', [CompletionResultType]::ParameterName, 'The log lines of the programs run by this command')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour; `NO_COLOR` is heeded')
            [CompletionResult]::new('--progress', '--progress', [CompletionResultType]::ParameterName, 'How steps are shown')
            [CompletionResult]::new('--root', '--root', [CompletionResultType]::ParameterName, 'The folder below which the installation lies')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Log more; repeat for even more')
            [CompletionResult]::new('--ascii', '--ascii', [CompletionResultType]::ParameterName, 'Write `ok`, `FAIL` and `warn` instead of symbols')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'keadm;config;check' {
            [CompletionResult]::new('--v', '--v', [CompletionResultType]::ParameterName, 'The verbosity as KubeEdge writes it')
            [CompletionResult]::new('--log-format', '--log-format', [CompletionResultType]::ParameterName, 'The log lines of the programs run by this command')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour; `NO_COLOR` is heeded')
            [CompletionResult]::new('--progress', '--progress', [CompletionResultType]::ParameterName, 'How steps are shown')
            [CompletionResult]::new('--root', '--root', [CompletionResultType]::ParameterName, 'The folder below which the installation lies')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Log more; repeat for even more')
            [CompletionResult]::new('--ascii', '--ascii', [CompletionResultType]::ParameterName, 'Write `ok`, `FAIL` and `warn` instead of symbols')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'keadm;edgecore' {
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'The configuration [default: /etc/kubeedge/config/edgecore.yaml]')
            [CompletionResult]::new('--v', '--v', [CompletionResultType]::ParameterName, 'The verbosity as KubeEdge writes it')
            [CompletionResult]::new('--log-format', '--log-format', [CompletionResultType]::ParameterName, 'The log lines of the programs run by this command')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour; `NO_COLOR` is heeded')
            [CompletionResult]::new('--progress', '--progress', [CompletionResultType]::ParameterName, 'How steps are shown')
            [CompletionResult]::new('--root', '--root', [CompletionResultType]::ParameterName, 'The folder below which the installation lies')
            [CompletionResult]::new('--minconfig', '--minconfig', [CompletionResultType]::ParameterName, 'Print the part of the configuration that somebody starting out needs')
            [CompletionResult]::new('--defaultconfig', '--defaultconfig', [CompletionResultType]::ParameterName, 'Print the configuration with all its defaults')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print the version')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Log more; repeat for even more')
            [CompletionResult]::new('--ascii', '--ascii', [CompletionResultType]::ParameterName, 'Write `ok`, `FAIL` and `warn` instead of symbols')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'keadm;version' {
            [CompletionResult]::new('-o', '-o', [CompletionResultType]::ParameterName, 'The form; without it, one line for people')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'The form; without it, one line for people')
            [CompletionResult]::new('--v', '--v', [CompletionResultType]::ParameterName, 'The verbosity as KubeEdge writes it')
            [CompletionResult]::new('--log-format', '--log-format', [CompletionResultType]::ParameterName, 'The log lines of the programs run by this command')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour; `NO_COLOR` is heeded')
            [CompletionResult]::new('--progress', '--progress', [CompletionResultType]::ParameterName, 'How steps are shown')
            [CompletionResult]::new('--root', '--root', [CompletionResultType]::ParameterName, 'The folder below which the installation lies')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Log more; repeat for even more')
            [CompletionResult]::new('--ascii', '--ascii', [CompletionResultType]::ParameterName, 'Write `ok`, `FAIL` and `warn` instead of symbols')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'keadm;completion' {
            [CompletionResult]::new('--v', '--v', [CompletionResultType]::ParameterName, 'The verbosity as KubeEdge writes it')
            [CompletionResult]::new('--log-format', '--log-format', [CompletionResultType]::ParameterName, 'The log lines of the programs run by this command')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour; `NO_COLOR` is heeded')
            [CompletionResult]::new('--progress', '--progress', [CompletionResultType]::ParameterName, 'How steps are shown')
            [CompletionResult]::new('--root', '--root', [CompletionResultType]::ParameterName, 'The folder below which the installation lies')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Log more; repeat for even more')
            [CompletionResult]::new('--ascii', '--ascii', [CompletionResultType]::ParameterName, 'Write `ok`, `FAIL` and `warn` instead of symbols')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'keadm;help' {
            [CompletionResult]::new('--v', '--v', [CompletionResultType]::ParameterName, 'The verbosity as KubeEdge writes it')
            [CompletionResult]::new('--log-format', '--log-format', [CompletionResultType]::ParameterName, 'The log lines of the programs run by this command')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour; `NO_COLOR` is heeded')
            [CompletionResult]::new('--progress', '--progress', [CompletionResultType]::ParameterName, 'How steps are shown')
            [CompletionResult]::new('--root', '--root', [CompletionResultType]::ParameterName, 'The folder below which the installation lies')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Log more; repeat for even more')
            [CompletionResult]::new('--ascii', '--ascii', [CompletionResultType]::ParameterName, 'Write `ok`, `FAIL` and `warn` instead of symbols')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'keadm;supervise' {
            [CompletionResult]::new('--v', '--v', [CompletionResultType]::ParameterName, 'The verbosity as KubeEdge writes it')
            [CompletionResult]::new('--log-format', '--log-format', [CompletionResultType]::ParameterName, 'The log lines of the programs run by this command')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour; `NO_COLOR` is heeded')
            [CompletionResult]::new('--progress', '--progress', [CompletionResultType]::ParameterName, 'How steps are shown')
            [CompletionResult]::new('--root', '--root', [CompletionResultType]::ParameterName, 'The folder below which the installation lies')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Log more; repeat for even more')
            [CompletionResult]::new('--ascii', '--ascii', [CompletionResultType]::ParameterName, 'Write `ok`, `FAIL` and `warn` instead of symbols')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
    })

    $completions.Where{ $_.CompletionText -like "$wordToComplete*" } |
        Sort-Object -Property ListItemText
}
