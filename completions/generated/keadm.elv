
set edit:completion:arg-completer[keadm] = { |@words|
    var index = (count $words)
    set index = (- $index 1)

    put (env _CLAP_IFS="\n" _CLAP_COMPLETE_INDEX=(to-string $index) KEADM_COMPLETE="elvish" keadm -- $@words) | to-lines
}

