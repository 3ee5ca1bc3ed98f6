# Runs after every start-up file. From version 4 on fish marks its prompt and commands itself.
if status is-interactive
    function __bz_preexec --on-event fish_preexec
        set -l lines (string replace --all '\\' '\\\\' -- $argv[1] | string replace --all ';' '\\x3b')
        set -l line (string join '\\x0a' -- $lines | string replace --all --regex '[[:cntrl:]]' '\\x3f')
        printf '\e]633;E;%s\a' (string sub --length 4096 -- $line)
        if string match --quiet --regex '^[0-3]\.' -- $version
            printf '\e]133;C\a'
        end
    end

    if string match --quiet --regex '^[0-3]\.' -- $version
        function __bz_postexec --on-event fish_postexec
            printf '\e]133;D;%s\a' $status
        end

        # `string collect` came with 3.1.
        if functions --query fish_prompt; and string match --quiet --regex '^3\.[1-9]' -- $version
            functions --copy fish_prompt __bz_own_prompt
            # The prompt's own last line break is dropped, as fish itself does it.
            function fish_prompt
                set -l shown (__bz_own_prompt | string collect)
                printf '\e]133;A\a%s\e]133;B\a' "$shown"
            end
        end
    end
end
