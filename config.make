# Copyright (C) the refund-notify authors
#
# nginx' ./configure adds this to the Makefile: the page of refund_status, as
# the numbers of a C array.

cat << END                                                    >> $NGX_MAKEFILE

$NGX_OBJS/ngx_http_refund_status_html.h: \\
	$ngx_addon_dir/src/status/status.html
	od -An -v -tu1 $ngx_addon_dir/src/status/status.html \\
		| sed 's/\([0-9][0-9]*\)/\1,/g' > \$@
END
