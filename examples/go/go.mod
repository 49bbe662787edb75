module refundreceiver

go 1.19
