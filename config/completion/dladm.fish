# Completion of dladm for fish: dladm completion fish | source
#
# The first line of the answer of dladm is "words" or "files". With "words" each further line is a word, a tab, and a text about it.
function __dladm_complete
    set -l words (commandline -opc)
    set -l last (commandline -ct)
    set -l program $words[1]
    set -e words[1]
    set -l lines ($program completion -- fish $words "$last" 2>/dev/null)
    if test "$lines[1]" = files
        set -l before (string match -r '^.*=' -- "$last")
        for file in (__fish_complete_path (string replace -r '^.*=' '' -- "$last"))
            echo "$before$file"
        end
        return
    end
    set -e lines[1]
    string join -- \n $lines
end
complete -c dladm -f -a '(__dladm_complete)'
