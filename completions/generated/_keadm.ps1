Register-ArgumentCompleter -Native -CommandName keadm -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)

    # The words up to the cursor, as they stand: nothing of the line is run.
    $words = @(foreach ($element in $commandAst.CommandElements) {
        $start = $element.Extent.StartOffset
        $text = $element.Extent.Text
        if ($start -ge $cursorPosition) {
            break
        } elseif ($start + $text.Length -ge $cursorPosition) {
            $text.Substring(0, $cursorPosition - $start).Trim("'", '"')
        } elseif ($element -is [System.Management.Automation.Language.StringConstantExpressionAst]) {
            $element.Value
        } else {
            $text
        }
    })
    # After a space the word is yet to come.
    $index = if ($wordToComplete -eq '') { $words.Count } else { $words.Count - 1 }

    $before = $env:KEADM_COMPLETE, $env:_CLAP_COMPLETE_INDEX
    try {
        $env:KEADM_COMPLETE = 'powershell'
        $env:_CLAP_COMPLETE_INDEX = $index
        $offers = @(& keadm -- @words)
    } finally {
        # What was not set is removed again.
        $env:KEADM_COMPLETE, $env:_CLAP_COMPLETE_INDEX = $before
    }
    foreach ($offer in $offers) {
        $value, $help = $offer.Split("`t", 2)
        if (-not $help) {
            $help = $value
        }
        [System.Management.Automation.CompletionResult]::new($value, $value, 'ParameterValue', $help)
    }
}
